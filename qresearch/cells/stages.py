"""The stages of a cell: the float network, calibration, quantization, training and evaluation.

A stage of several cells side by side takes them as lists. The float network and the statistics of calibration are
shared by all cells that begin alike.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from qresearch.cells.cell import Cell, abstract_network
from qresearch.config.nodes import build, plain
from qresearch.config.schema import BatchNorm, Method
from qresearch.core.program import program
from qresearch.evaluation.accuracy import BATCH, accuracy
from qresearch.evaluation.anatomy import anatomy
from qresearch.export.write_packed import packed_content
from qresearch.models.checkpoint import load_checkpoint
from qresearch.nn.calibrate import ActStatistic, calibrate, calibration_key, statistics_structure
from qresearch.nn.quantize_model import quantize_model
from qresearch.store.baselines import load_baseline, save_baseline
from qresearch.store.shared import Shared
from qresearch.training.augment import Augment
from qresearch.training.loop import Curves, Diverged, check_batch, fit

Listen = Callable[[int, str, int, int, dict[str, float | int]], None]  # cell, stage, step, total, point


def check_data(cell: Cell) -> None:
    """Read the data, and raise ValueError where it holds too few images for calibration or for a batch."""
    cfg = cell.cfg
    if cfg.method.name != Method.float:
        cell.data.train(cfg.calibration.images)
    if cell.weights is None:
        check_batch(build(cfg.baseline), len(cell.data.train()[0]), "baseline")
    if cfg.method.name == Method.qat:
        check_batch(build(cfg.optim), len(cell.data.train()[0]), "optim")


def baseline(cell: Cell, shared: Shared, listen: Callable) -> tuple[nnx.Module, Curves]:
    """The float network in evaluation mode, loaded or trained, with its curves (none where the weights came
    as a file). It is shared: change a copy.
    """
    network = nnx.clone(abstract_network(cell.model, cell.data.shape, cell.data.classes))

    def read(path: Path) -> tuple[nnx.Module, Curves]:
        assert cell.weights is not None
        load_checkpoint(network, cell.weights)
        return network, []

    if cell.weights is not None:
        return shared.get("weights", source(cell), make=lambda: read(Path()), load=read, save=lambda path, value: None)
    return shared.get(
        "baselines",
        source(cell),
        make=lambda: _train_baseline(cell, network, listen),
        load=lambda path: load_baseline(path, network),
        save=save_baseline,
    )


def _train_baseline(cell: Cell, network: nnx.Module, listen: Callable) -> tuple[nnx.Module, Curves]:
    cfg, data = cell.cfg, cell.data
    nnx.update(network, initial_state(cell.model, data.shape, data.classes, cfg.seed))
    network.train()
    (curves,) = _fit([cell], [network], "baseline", lambda _, *point: listen(*point))
    if isinstance(curves, Diverged):
        raise curves
    return network, curves


def calibration(cell: Cell, reference: nnx.Module, shared: Shared) -> dict[str, ActStatistic]:
    """The statistics of the layers' inputs, from the first images of the training set."""

    def make() -> list[np.ndarray]:
        found = calibrate(reference, cell.rules, calibration_batches(cell))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]

    structure = statistics_structure(cell.rules, cell.layers)
    if not structure.num_leaves:
        return {}
    policy = str(cell.cfg.method.batch_norm == BatchNorm.fold)
    ingredients = [source(cell), policy, plain(cell.cfg.calibration), calibration_key(cell.rules)]
    return jax.tree.unflatten(structure, shared.arrays("calibration", ingredients, make))


def calibration_batches(cell: Cell) -> Iterator[Any]:
    """The images of calibration, normalised."""
    settings = cell.cfg.calibration
    images, _ = cell.data.train(settings.images)
    for start in range(0, len(images), settings.batch_size):
        yield cell.normalise(images[start : start + settings.batch_size])


def quantize(cell: Cell, reference: nnx.Module, statistics: dict[str, ActStatistic]) -> nnx.Module:
    """The float network with its slots filled and its scales set; for PTQ, with its weights rounded too."""
    ptq = build(cell.cfg.ptq) if cell.cfg.method.name == Method.ptq else None
    return quantize_model(reference, cell.rules, cell.layers, statistics, ptq=ptq, key=jax.random.key(cell.cfg.seed))


def train(cells: Sequence[Cell], models: Sequence[nnx.Module], listen: Listen) -> list[Curves | Diverged]:
    """Quantization-aware training in place; returns the curves of each model, or why it diverged."""
    if cells[0].cfg.method.batch_norm == BatchNorm.train:
        for model in models:
            model.train()
    return _fit(cells, models, "qat", listen)


def evaluate(cell: Cell, models: Sequence[nnx.Module]) -> list[dict[str, float]]:
    images, labels = cell.data.test()
    return accuracy(models, images, labels, cell.normalise)


def measure(cell: Cell, references: Sequence[nnx.Module], models: Sequence[nnx.Module]) -> list[list[dict[str, Any]]]:
    """The anatomy of the error of each model, one row for each tensor of each layer; none of a float network."""
    if cell.cfg.method.name == Method.float:
        return [[] for _ in models]
    images, _ = cell.data.test()
    x = cell.normalise(images[: cell.cfg.anatomy_images])
    return anatomy(references, models, cell.layers, x, trained=cell.cfg.method.name == Method.qat)


def packed_file(cell: Cell, model: nnx.Module) -> bytes:
    """The quantized network as a packed file, with what is needed to build and to feed it."""
    return packed_content(model, cell.layers, about(cell))


def about(cell: Cell) -> dict[str, Any]:
    """What is needed to build a cell's network and to feed it: the model, and how stored pixels are normalised."""
    data, normalise = cell.data, cell.normalise
    pixels = {name: getattr(normalise, name).reshape(-1).tolist() for name in ("maximum", "mean", "std")}
    return {
        "model": cell.cfg.model,
        "batch_norm": cell.cfg.method.batch_norm.value,
        "shape": list(data.shape),
        "classes": data.classes,
        "pixels": pixels,
    }


def source(cell: Cell) -> dict[str, Any]:
    """What the float network is made from, as JSON."""
    cfg = cell.cfg
    if cell.weights is None:
        return {"seed": cfg.seed, "model": cfg.model, "data": cfg.data, "baseline": cfg.baseline}
    return {"model": cfg.model, "data": cfg.data, "weights": _file_hash(cell.weights, cell.weights.stat().st_mtime_ns)}


@program(static_argnums=(0, 1, 2))
def initial_state(model, shape, classes, seed):
    """The state of a network with random weights."""
    return nnx.state(model.build(shape, classes, rngs=nnx.Rngs(jax.random.key(seed))))


@functools.lru_cache(maxsize=64)
def _file_hash(path: Path, changed: int) -> str:
    """The SHA-256 of a file, which is read again when it has changed."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fit(cells: Sequence[Cell], models: Sequence[nnx.Module], stage: str, listen: Listen) -> list[Curves | Diverged]:
    """Train models by the recipes of their cells; leaves them in evaluation mode. Returns the curves of each, or why it
    diverged: a network that is not finite after the last step has too, though none of the curves says so.
    """
    name = "optim" if stage == "qat" else stage
    images, labels = cells[0].data.train()
    trained = fit(
        models,
        images,
        labels,
        recipes=[build(getattr(cell.cfg, name)) for cell in cells],
        seeds=[cell.cfg.seed for cell in cells],
        name=name,
        normalise=cells[0].normalise,
        augment=Augment(cells[0].data.flip, cells[0].data.crop),
        listen=lambda number, step, total, point: listen(number, stage, step, total, point),
    )
    for model in models:
        model.eval()
    some = slice(min(BATCH, len(cells[0].data.test()[1])))  # the size that is evaluated anyway: no other program
    losses = [found["loss"] for found in accuracy(models, images[some], labels[some], cells[0].normalise)]
    return [
        found.diverged or _ruined(model, loss, found.curves, name) or found.curves
        for model, loss, found in zip(models, losses, trained, strict=True)
    ]


def _ruined(model: nnx.Module, loss: float, curves: Curves, name: str) -> Diverged | None:
    state = jax.device_get(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    if math.isfinite(loss) and all(np.all(np.isfinite(value)) for value in jax.tree.leaves(state)):
        return None
    return Diverged(name, "trained network", math.nan, int(curves[-1]["step"]), curves)
