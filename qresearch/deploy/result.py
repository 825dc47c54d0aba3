"""The networks behind a result: its record is looked up, and its float and its quantized network built again."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

from qresearch.cells.cell import Cell, prepare
from qresearch.cells.deployment import Deployment, deploy_narrow
from qresearch.cells.stages import baseline, calibration, quantize
from qresearch.config.check import check
from qresearch.config.schema import BatchNorm, Method
from qresearch.export.packed_file import read_packed
from qresearch.graph.nodes import Graph
from qresearch.graph.trace import trace
from qresearch.nn.restore_model import restore_model
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.store.index import flat
from qresearch.store.record import read_record, read_records
from qresearch.store.shared import Shared

FILE = "model.safetensors"


class ResultError(ValueError):
    """A result that cannot be found or built again."""


@dataclasses.dataclass(frozen=True)
class Networks:
    """Of one result: the float network that it began with, batch norm folded, and the quantized one."""

    record: dict[str, Any]
    cell: Cell
    reference: nnx.Module
    model: nnx.Module

    @functools.cached_property
    def graph(self) -> Graph:
        return trace(self.model, self.cell.layers, self.cell.data.shape)

    @functools.cached_property
    def deployment(self) -> Deployment:
        """The quantized network with 8 bits between its layers. Raises ValueError where it has no integer form."""
        return deploy_narrow(self.cell, self.graph)

    @functools.cached_property
    def float_graph(self) -> Graph:
        return trace(self.reference, self.cell.layers, self.cell.data.shape)


def find_results(place: Path, settings: Sequence[str]) -> list[dict[str, Any]]:
    """The finished records at `place` (a result.json, its folder, or a folder of runs) with these settings, KEY=VALUE.

    Raises ResultError where there is none, and for a key that no configuration has.
    """
    if not place.exists():
        raise ResultError(f"{place}: there is no such result; name a result.json, its folder, or a folder of runs.")
    records = [read_record(place) | {"path": str(place)}] if place.is_file() else read_records(place)
    found = [record for record in records if record["status"] == "finished"]
    if not found:
        raise ResultError(f"{place} holds no finished result; `qresearch run` or `qresearch sweep` makes some.")
    for setting in settings:
        key, equals, value = setting.partition("=")
        there = sorted({found_value for record in found for found_value in _values(record, key)})
        if not equals or not there:
            raise ResultError(
                f"{setting!r} is no KEY=VALUE of these results; say, for example, method=qat or weight.bits=4."
            )
        found = [record for record in found if value in _values(record, key)]
        if not found:
            raise ResultError(f"No result under {place} has {setting}; {key} is {', '.join(there)} there.")
    return found


def _values(record: dict[str, Any], key: str) -> set[str]:
    """What a key is in a record: in its configuration, and as it was written on the command line (method=qat)."""
    config = flat(record["config"])
    given = {word.partition("=")[2] for word in record["overrides"] if word.partition("=")[0] == key}
    if key == "method":
        given.add(config["method.name"])
    return given | ({_word(config[key])} if key in config else set())


def _word(value: Any) -> str:
    """A value as the command line spells it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def one_result(place: Path, settings: Sequence[str]) -> dict[str, Any]:
    """The one record that `find_results` finds. Raises ResultError where it finds several, and lists what differs."""
    found = find_results(place, settings)
    if len(found) == 1:
        return found[0]
    flats = [flat(record["config"]) for record in found]
    differing = [key for key in flats[0] if len({str(each.get(key)) for each in flats}) > 1]
    lines = [" ".join(f"{key}={_word(each.get(key))}" for key in differing) for each in flats[:8]]
    more = f"\n  ... {len(found) - 8} more" if len(found) > 8 else ""
    raise ResultError(
        f"{len(found)} results under {place} fit; say which with KEY=VALUE:\n  " + "\n  ".join(lines) + more
    )


def load_networks(record: dict[str, Any]) -> Networks:
    """The networks of a record: the quantized one from its packed file where it was kept; PTQ is else done again.

    Raises ResultError for a float result, and for QAT whose file was not kept.
    """
    cfg = check(record["config"])
    folder = Path(record["path"]).parent
    if cfg.method.name == Method.float:
        raise ResultError(f"{record['path']} is a float network, which has no codes; choose a result of ptq or qat.")
    kept = folder / FILE
    if not kept.is_file() and cfg.method.name == Method.qat:
        raise ResultError(
            f"{folder} does not hold {FILE}, and training again would take as long as before: run it with "
            "export.file=true, which keeps the network beside its record."
        )
    cell, shared = prepare(cfg), _shared(_runs_folder(folder, cfg.runs_dir))
    float_model, _ = baseline(cell, shared, _silent)
    fold = cfg.method.batch_norm == BatchNorm.fold
    reference = fold_batch_norm(float_model)
    start = reference if fold else float_model
    if kept.is_file():
        return Networks(record, cell, reference, _from_file(cell, kept, start))
    return Networks(record, cell, reference, quantize(cell, start, calibration(cell, start, shared)))


def _from_file(cell: Cell, path: Path, start: nnx.Module) -> nnx.Module:
    """The network in a packed file; `start` has its layers."""
    packed, model = read_packed(path), nnx.clone(start)
    for name, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        value = packed.floats.get(".".join(map(str, name)))
        if value is not None:
            variable.set_value(jnp.asarray(value))
    return restore_model(model, cell.rules, packed.weights, packed.inputs)


def _runs_folder(folder: Path, said: str) -> Path:
    """Where the baselines of a result lie: above it, or where its configuration says."""
    above = (parent for parent in folder.absolute().parents if (parent / "baselines").is_dir())
    return next(above, Path(said).absolute())


@functools.cache
def _shared(folder: Path) -> Shared:
    return Shared(folder)


def _silent(*told: Any) -> None:
    """Nobody listens to the training of a baseline that is not there any more."""
