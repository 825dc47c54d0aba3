"""Cells of an experiment, in a straight line: build, baseline, quantize, train, evaluate.

Cells of one group run the same compiled programs. Each is computed alone, or several side by side, with a leading axis
of cells that `jax.vmap` gives the same programs; training, evaluation and anatomy are then shared, calibration and the
choice of scales are each cell's own.
"""

import dataclasses
import functools
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from qresearch.config import BatchNorm, Method, RunConfig, build, build_rules, plain
from qresearch.core.program import program
from qresearch.data.normalise import Normalise, normalise_for
from qresearch.data.source import VARIABLE, data_folder, find_file
from qresearch.evaluation.accuracy import BATCH, accuracy
from qresearch.evaluation.anatomy import anatomy
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.cost import LayerCost, layer_costs
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.models.checkpoint import CheckpointError, load_checkpoint
from qresearch.nn.calibrate import ActStatistic, calibrate, calibration_key, statistics_structure
from qresearch.nn.geometry import Geometry, geometry
from qresearch.nn.quantize_model import check_blocks, check_solvable, quantize_model
from qresearch.nn.rules import Rule, assign
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.store.baselines import load_baseline, save_baseline
from qresearch.store.shared import Shared
from qresearch.training.augment import Augment
from qresearch.training.loop import Curves, Diverged, check_batch, fit

Listen = Callable[[int, str, int, int, dict[str, float | int]], None]  # cell, stage, step, total, point


class Cell(NamedTuple):
    """What a configuration describes, built and checked, before anything is computed."""

    cfg: RunConfig
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
    error: Exception | None = None  # what broke the cell off, other than a divergence
    together: int = 1  # how many cells went side by side, this one among them
    metrics: dict[str, float | int] = dataclasses.field(default_factory=dict)
    layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # the anatomy of the error
    costs: dict[str, LayerCost] = dataclasses.field(default_factory=dict)  # of every layer, for one sample
    audit: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    float_tensors: dict[str, int] = dataclasses.field(default_factory=dict)  # elements of what stays float, by path
    curves: dict[str, Curves] = dataclasses.field(default_factory=dict)  # by stage: baseline, qat

    def diverge(self, error: Diverged) -> None:
        self.status, self.message = "diverged", str(error)
        self.curves["diverged"] = error.curves


class Work(NamedTuple):
    """A cell on its way: its float network, what it is compared with (batch norm folded or not), and its network."""

    number: int
    cell: Cell
    outcome: Outcome
    reference: nnx.Module
    model: nnx.Module


def prepare(cfg: RunConfig) -> Cell:
    """Build and check everything that can be known before computing.

    Raises ConfigError, or the ValueError of the part that does not fit: rules against layers, blocks against
    shapes, missing weights.
    """
    model, data = build(cfg.model), build(cfg.data)
    for part in (cfg.baseline, cfg.optim, cfg.tracker):
        build(part)
    weights = _weights_path(model.weights)
    layers = _geometry(model, data.shape, data.classes)
    rules = {}
    if cfg.method.name != Method.float:
        rules = assign(list(layers), build_rules(cfg))
        check_blocks(rules, layers)
        if cfg.method.name == Method.ptq:
            check_solvable(rules, build(cfg.ptq))
    return Cell(cfg, model, data, normalise_for(data), rules, layers, weights)


def run_cells(cells: Sequence[Cell], shared: Shared, listen: Listen) -> list[Outcome]:
    """Compute cells of one group, side by side if they are several; stages that cells share are kept in `shared`.

    A cell whose loss is no number ends with status `diverged`; whatever else breaks a cell off is its outcome's
    `error`. The seconds of cells side by side are an equal part of all.
    """
    started, outcomes = time.monotonic(), [Outcome() for _ in cells]
    works = []
    for number, (cell, outcome) in enumerate(zip(cells, outcomes, strict=True)):
        work = _attempt(outcome, lambda n=number, c=cell, o=outcome: _start(n, c, o, shared, listen))
        works += [] if work is None else [work]
    for alike in _alike(works):
        _compute(alike, listen)
    for outcome in outcomes:
        outcome.metrics["seconds"] = (time.monotonic() - started) / len(cells)
    return outcomes


def _attempt(outcome: Outcome, step: Callable[[], Any]) -> Any:
    """What `step` returns; None where it fails, which the outcome then says."""
    try:
        return step()
    except Diverged as error:
        outcome.diverge(error)
    except Exception as error:
        outcome.error = error
    return None


def _start(number: int, cell: Cell, outcome: Outcome, shared: Shared, listen: Listen) -> Work:
    """The cell up to its calibrated network."""
    cfg = cell.cfg
    _check_data(cell)
    float_model, curves = baseline(cell, shared, lambda *point: listen(number, *point))
    if curves:
        outcome.curves["baseline"] = curves
    source = _source(cell)
    found = shared.json("evaluation", source, lambda: _evaluate(cell, [float_model])[0])
    outcome.metrics |= {f"{name}_float": value for name, value in found.items()}
    outcome.metrics |= {"size_bytes_float": float_bytes(float_model), "test_images": len(cell.data.test()[1])}
    if cfg.method.name == Method.float:
        return Work(number, cell, outcome, float_model, float_model)
    reference = fold_batch_norm(float_model) if cfg.method.batch_norm == BatchNorm.fold else float_model
    statistics = calibration(cell, reference, shared)
    return Work(number, cell, outcome, reference, quantize(cell, reference, statistics))


def _alike(works: Sequence[Work]) -> list[list[Work]]:
    """The cells in bundles that can go side by side: signs that calibration saw, and the length of training, may tell
    cells of a group apart.
    """
    if len(works) < 2:
        return [list(works)] if works else []
    bundles: dict[Any, list[Work]] = {}
    for work in works:
        graphdef, state = nnx.split(work.model)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(state))
        recipe = build(work.cell.cfg.optim)
        key = (graphdef, jax.tree.structure(state), shapes, int(recipe.epochs), work.cell.cfg.anatomy_images)
        bundles.setdefault(key, []).append(work)
    return list(bundles.values())


def _compute(works: list[Work], listen: Listen) -> None:
    """The cells from their calibrated networks to their metrics."""
    trained = works[0].cell.cfg.method.name == Method.qat
    for work in works:
        work.outcome.together = len(works)
    try:
        if trained:
            works = train(works, listen)
        if not works:
            return
        models, cell = [work.model for work in works], works[0].cell
        found = _evaluate(cell, models)
        layers: list[Any] = [[] for _ in works]
        if cell.cfg.method.name != Method.float:
            references = [work.reference for work in works]
            layers = anatomy(references, models, cell.layers, _anatomy_batch(cell), trained=trained)
    except Exception as error:
        for work in works:
            work.outcome.error = error
        return
    for work, accuracy_of, rows in zip(works, found, layers, strict=True):
        _attempt(work.outcome, functools.partial(_describe, work, accuracy_of, rows))


def _describe(work: Work, found: dict[str, float], rows: list[dict[str, Any]]) -> None:
    """Fill in what follows from the finished network."""
    outcome, model, layers = work.outcome, work.model, work.cell.layers
    outcome.layers, outcome.costs = rows, layer_costs(model, layers)
    outcome.metrics |= found | {"size_bytes": quantized_bytes(model, layers)}
    outcome.metrics |= _totals(outcome.costs) | _summary(rows)
    outcome.audit, outcome.float_tensors = audit(model), float_tensors(model)


def _check_data(cell: Cell) -> None:
    """Read the data, and raise ValueError where it holds too few images for calibration or for a batch."""
    cfg = cell.cfg
    if cfg.method.name != Method.float:
        cell.data.train(cfg.calibration.images)
    if cell.weights is None:
        check_batch(build(cfg.baseline), len(cell.data.train()[0]), "baseline")
    if cfg.method.name == Method.qat:
        check_batch(build(cfg.optim), len(cell.data.train()[0]), "optim")


def _source(cell: Cell) -> dict[str, Any]:
    """What the float network is made from, as JSON."""
    cfg = cell.cfg
    if cell.weights is None:
        return {"seed": cfg.seed, "model": cfg.model, "data": cfg.data, "baseline": cfg.baseline}
    return {"model": cfg.model, "data": cfg.data, "weights": _file_hash(cell.weights, cell.weights.stat().st_mtime_ns)}


def baseline(cell: Cell, shared: Shared, listen: Callable) -> tuple[nnx.Module, Curves]:
    """The float network in evaluation mode, loaded or trained, with its curves (none where the weights came
    as a file). It is shared: change a copy.
    """
    network = nnx.clone(_abstract(cell.model, cell.data.shape, cell.data.classes))

    def read(path: Path) -> tuple[nnx.Module, Curves]:
        assert cell.weights is not None
        load_checkpoint(network, cell.weights)
        return network, []

    if cell.weights is not None:
        return shared.get("weights", _source(cell), make=lambda: read(Path()), load=read, save=lambda path, value: None)
    return shared.get(
        "baselines",
        _source(cell),
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
    settings = cell.cfg.calibration
    images, _ = cell.data.train(settings.images)

    def make() -> list[np.ndarray]:
        starts = range(0, len(images), settings.batch_size)
        batches = (cell.normalise(images[start : start + settings.batch_size]) for start in starts)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(calibrate(reference, cell.rules, batches))]

    structure = statistics_structure(cell.rules, cell.layers)
    if not structure.num_leaves:
        return {}
    policy = str(cell.cfg.method.batch_norm == BatchNorm.fold)
    ingredients = [_source(cell), policy, plain(settings), calibration_key(cell.rules)]
    return jax.tree.unflatten(structure, shared.arrays("calibration", ingredients, make))


def quantize(cell: Cell, reference: nnx.Module, statistics: dict[str, ActStatistic]) -> nnx.Module:
    """The float network with its slots filled and its scales set; for PTQ, with its weights rounded too."""
    ptq = build(cell.cfg.ptq) if cell.cfg.method.name == Method.ptq else None
    return quantize_model(reference, cell.rules, cell.layers, statistics, ptq=ptq, key=jax.random.key(cell.cfg.seed))


def train(works: list[Work], listen: Listen) -> list[Work]:
    """Quantization-aware training in place; returns the cells that did not diverge."""
    if works[0].cell.cfg.method.batch_norm == BatchNorm.train:
        for work in works:
            work.model.train()
    heard = lambda index, *point: listen(works[index].number, *point)  # noqa: E731
    curves = _fit([work.cell for work in works], [work.model for work in works], "qat", heard)
    for work, found in zip(works, curves, strict=True):
        if isinstance(found, Diverged):
            work.outcome.diverge(found)
        else:
            work.outcome.curves["qat"] = found
    return [work for work in works if work.outcome.status == "finished"]


@program(static_argnums=(0, 1, 2))
def initial_state(model, shape, classes, seed):
    """The state of a network with random weights."""
    return nnx.state(model.build(shape, classes, rngs=nnx.Rngs(jax.random.key(seed))))


@functools.lru_cache(maxsize=64)
def _abstract(model: Any, shape: tuple[int, ...], classes: int) -> nnx.Module:
    """The network in evaluation mode, without numbers in it; to be cloned before it is filled."""
    network = nnx.eval_shape(lambda: model.build(shape, classes, rngs=nnx.Rngs(0)))
    network.eval()
    return network


@functools.lru_cache(maxsize=64)
def _geometry(model: Any, shape: tuple[int, ...], classes: int) -> dict[str, Geometry]:
    return geometry(_abstract(model, shape, classes), (1, *shape))


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


def _evaluate(cell: Cell, models: Sequence[nnx.Module]) -> list[dict[str, float]]:
    images, labels = cell.data.test()
    return accuracy(models, images, labels, cell.normalise)


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
