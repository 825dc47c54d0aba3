"""One cell of an experiment, in a straight line: build, baseline, quantize, train, evaluate."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from omegaconf import DictConfig

from qresearch.config import BatchNorm, Method, build, build_rules, plain
from qresearch.core.program import program
from qresearch.data.normalise import Normalise, normalise_for
from qresearch.data.source import VARIABLE, data_folder, find_file
from qresearch.evaluation.accuracy import BATCH, accuracy
from qresearch.evaluation.anatomy import anatomy
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.cost import LayerCost, layer_costs
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.models.checkpoint import CheckpointError, load_checkpoint
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import Geometry, geometry
from qresearch.nn.quantize_model import check_blocks, check_solvable, quantize_model
from qresearch.nn.rules import Rule, assign
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.store.baselines import BaselineStore
from qresearch.training.augment import Augment
from qresearch.training.loop import Curves, Diverged, check_batch, fit

Listen = Callable[[str, int, int, dict[str, float | int]], None]  # stage, step, total, point


class Cell(NamedTuple):
    """What a configuration describes, built and checked, before anything is computed."""

    cfg: DictConfig
    model: Any
    data: Any
    normalise: Normalise
    rules: dict[str, Rule]
    layers: dict[str, Geometry]
    weights: Path | None

    @property
    def group(self) -> str:
        """Names the programs that this cell runs: cells that differ in numbers alone are of one group."""
        cfg = self.cfg
        recipe = build(cfg.optim) if cfg.method.name == Method.qat else None
        ptq = build(cfg.ptq) if cfg.method.name == Method.ptq else None
        built = (self.rules, recipe, ptq)
        structure = jax.tree.structure(built), [jax.numpy.shape(number) for number in jax.tree.leaves(built)]
        choices = (plain(cfg.method), plain(cfg.data), self.model, structure)
        return hashlib.sha256(repr(choices).encode()).hexdigest()[:8]


@dataclasses.dataclass
class Outcome:
    """What a cell found, filled as it goes."""

    status: str = "finished"
    message: str | None = None
    metrics: dict[str, float | int] = dataclasses.field(default_factory=dict)
    layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # the anatomy of the error
    costs: dict[str, LayerCost] = dataclasses.field(default_factory=dict)  # of every layer, for one sample
    audit: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    float_tensors: dict[str, int] = dataclasses.field(default_factory=dict)  # elements of what stays float, by path
    curves: dict[str, Curves] = dataclasses.field(default_factory=dict)  # by stage: baseline, qat


def prepare(cfg: DictConfig) -> Cell:
    """Build and check everything that can be known before computing.

    Raises ConfigError, or the ValueError of the part that does not fit: rules against layers, blocks against
    shapes, missing weights.
    """
    model, data = build(cfg.model), build(cfg.data)
    for part in ("baseline", "optim", "tracker"):
        build(cfg[part])
    weights = _weights_path(model.weights)
    layers = geometry(_abstract(model, data), (1, *data.shape))
    rules = {}
    if cfg.method.name != Method.float:
        rules = assign(list(layers), build_rules(cfg))
        check_blocks(rules, layers)
        if cfg.method.name == Method.ptq:
            check_solvable(rules, build(cfg.ptq))
    return Cell(cfg, model, data, normalise_for(data), rules, layers, weights)


def run_cell(cell: Cell, runs: Path, listen: Listen) -> Outcome:
    """Compute the cell; baselines are kept under `runs`. A loss that is no number ends it with status `diverged`."""
    outcome, started = Outcome(), time.monotonic()
    try:
        _compute(cell, runs, listen, outcome)
    except Diverged as error:
        outcome.status, outcome.message = "diverged", str(error)
        outcome.curves["diverged"] = error.curves
    outcome.metrics["seconds"] = time.monotonic() - started
    return outcome


def _check_data(cell: Cell) -> None:
    """Read the data, and raise ValueError where it holds too few images for calibration or for a batch."""
    cfg = cell.cfg
    if cfg.method.name != Method.float:
        cell.data.train(cfg.calibration.images)
    if cell.weights is None:
        check_batch(build(cfg.baseline), len(cell.data.train()[0]), "baseline")
    if cfg.method.name == Method.qat:
        check_batch(build(cfg.optim), len(cell.data.train()[0]), "optim")


def _compute(cell: Cell, runs: Path, listen: Listen, outcome: Outcome) -> None:
    cfg, trained = cell.cfg, cell.cfg.method.name == Method.qat
    _check_data(cell)
    float_model, curves = baseline(cell, runs, listen)
    if curves:
        outcome.curves["baseline"] = curves
    found = _evaluate(cell, float_model)
    outcome.metrics |= {f"{name}_float": value for name, value in found.items()}
    outcome.metrics["size_bytes_float"] = float_bytes(float_model)
    model = float_model
    if cfg.method.name != Method.float:
        reference = fold_batch_norm(float_model) if cfg.method.batch_norm == BatchNorm.fold else float_model
        model = quantize(cell, reference)
        if trained:
            outcome.curves["qat"] = train(cell, model, listen)
        found = _evaluate(cell, model)
        outcome.layers = anatomy(reference, model, cell.layers, _anatomy_batch(cell), trained=trained)
    outcome.costs = layer_costs(model, cell.layers)
    outcome.metrics |= found | {"size_bytes": quantized_bytes(model, cell.layers)}
    outcome.metrics |= _totals(outcome.costs) | _summary(outcome.layers)
    outcome.audit, outcome.float_tensors = audit(model), float_tensors(model)


def baseline(cell: Cell, runs: Path, listen: Listen) -> tuple[nnx.Module, Curves]:
    """The float network in evaluation mode, loaded or trained, with its curves (none where the weights came
    as a file).
    """
    cfg, data = cell.cfg, cell.data
    network = _abstract(cell.model, data)
    if cell.weights is not None:
        load_checkpoint(network, cell.weights)
        return network, []
    store = BaselineStore(runs / "baselines")
    ingredients = {"seed": cfg.seed, **{key: plain(cfg[key]) for key in ("model", "data", "baseline")}}
    curves = store.load(network, ingredients)
    if curves is None:
        nnx.update(network, initial_state(cell.model, data.shape, data.classes, cfg.seed))
        network.train()
        curves = _fit(cell, network, "baseline", "baseline", listen)
        store.save(network, ingredients, curves)
    return network, curves


def quantize(cell: Cell, float_model: nnx.Module) -> nnx.Module:
    """The float network with its slots filled and its scales calibrated; for PTQ, with its weights rounded too."""
    settings = cell.cfg.calibration
    images, _ = cell.data.train(settings.images)
    starts = range(0, len(images), settings.batch_size)
    batches = (cell.normalise(images[start : start + settings.batch_size]) for start in starts)
    statistics = calibrate(float_model, cell.rules, batches)
    ptq = build(cell.cfg.ptq) if cell.cfg.method.name == Method.ptq else None
    return quantize_model(float_model, cell.rules, cell.layers, statistics, ptq=ptq, key=jax.random.key(cell.cfg.seed))


def train(cell: Cell, model: nnx.Module, listen: Listen) -> Curves:
    """Quantization-aware training of `model` in place."""
    if cell.cfg.method.batch_norm == BatchNorm.train:
        model.train()
    return _fit(cell, model, "qat", "optim", listen)


@program(static_argnums=(0, 1, 2))
def initial_state(model, shape, classes, seed):
    """The state of a network with random weights."""
    return nnx.state(model.build(shape, classes, rngs=nnx.Rngs(jax.random.key(seed))))


def _abstract(model: Any, data: Any) -> nnx.Module:
    """The network in evaluation mode, without numbers in it."""
    network = nnx.eval_shape(lambda: model.build(data.shape, data.classes, rngs=nnx.Rngs(0)))
    network.eval()
    return network


def _fit(cell: Cell, model: nnx.Module, stage: str, name: str, listen: Listen) -> Curves:
    """Train `model` with the recipe under the config's key `name`; leaves it in evaluation mode.

    Raises Diverged where the trained network is not finite: the last step is judged by none of the curves.
    """
    images, labels = cell.data.train()
    curves = fit(
        model,
        images,
        labels,
        recipe=build(cell.cfg[name]),
        name=name,
        normalise=cell.normalise,
        augment=Augment(cell.data.flip, cell.data.crop),
        seed=cell.cfg.seed,
        listen=lambda step, total, point: listen(stage, step, total, point),
    )
    model.eval()
    some = slice(min(BATCH, len(cell.data.test()[1])))  # the size that is evaluated anyway: no other program is needed
    loss = accuracy(model, images[some], labels[some], cell.normalise)["loss"]
    state = jax.device_get(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    if not (math.isfinite(loss) and all(np.all(np.isfinite(value)) for value in jax.tree.leaves(state))):
        raise Diverged(name, "trained network", math.nan, int(curves[-1]["step"]), curves)
    return curves


def _evaluate(cell: Cell, model: nnx.Module) -> dict[str, float | int]:
    images, labels = cell.data.test()
    return accuracy(model, images, labels, cell.normalise)


def _anatomy_batch(cell: Cell) -> Any:
    images, _ = cell.data.test()
    return cell.normalise(images[: cell.cfg.anatomy_images])


def _totals(costs: dict[str, LayerCost]) -> dict[str, float | int]:
    """The sum of every kind of cost over the layers."""
    return {kind: sum(getattr(cost, kind) for cost in costs.values()) for kind in LayerCost._fields}


def _summary(layers: list[dict[str, Any]]) -> dict[str, float | int]:
    """The mean and the lowest SQNR over layers, for weights, inputs and outputs."""
    means = {}
    for tensor in ("weight", "input", "output"):
        values = [row["sqnr_db"] for row in layers if row["tensor"] == tensor and row["sqnr_db"] is not None]
        if values:
            means[f"sqnr_{tensor}_db"] = float(np.mean(values))
            means[f"sqnr_{tensor}_db_min"] = float(np.min(values))
    return means


def _weights_path(weights: str | None) -> Path | None:
    """The checkpoint that `model.weights` names: a path, or a file of the data folder."""
    if weights is None:
        return None
    path = Path(weights).expanduser()
    found = path if path.is_file() else find_file(weights)
    if found is None:
        raise CheckpointError(
            f"model.weights={weights}: there is no such file, nor one of that name in {data_folder()} "
            f"(set {VARIABLE} for another folder). Two ways to it: train it, `qresearch run experiment=float_cifar10 "
            "model.weights=null`, and it is kept; or turn a public PyTorch checkpoint into it, "
            f"`qresearch import-torch FILE -o {data_folder() / path.name}`. "
            "model.weights=null trains a baseline for any run."
        )
    return found
