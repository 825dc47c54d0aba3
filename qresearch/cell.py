"""One cell of an experiment, from its configuration to its metrics: build, baseline, quantize, train,
evaluate. A straight line.
"""

import hashlib
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
from qresearch.evaluation.accuracy import accuracy
from qresearch.evaluation.anatomy import anatomy
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.cost import layer_costs
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.models.checkpoint import CheckpointError, load_checkpoint
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import Geometry, geometry
from qresearch.nn.quantize_model import check_blocks, quantize_model
from qresearch.nn.rules import Rule, assign
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.store.baselines import BaselineStore
from qresearch.training.augment import Augment
from qresearch.training.loop import Curves, Diverged, fit

Listen = Callable[[str, int, int, dict[str, float]], None]  # stage, step, total, point


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
        structure = jax.tree.structure((self.rules, recipe, ptq))
        choices = (plain(cfg.method), plain(cfg.data), self.model, structure)
        return hashlib.sha256(repr(choices).encode()).hexdigest()[:8]


class Outcome(NamedTuple):
    """What a cell found; `curves` by stage ("baseline", "qat")."""

    status: str
    metrics: dict[str, float]
    layers: list[dict[str, Any]]
    audit: list[dict[str, Any]]
    float_tensors: dict[str, int]  # elements of what stays float, by path
    curves: dict[str, Curves]
    message: str | None = None


def prepare(cfg: DictConfig) -> Cell:
    """Build and check everything that can be known before computing.

    Raises ConfigError, or the ValueError of the part that does not fit: rules against layers, blocks against
    shapes, missing weights.
    """
    model, data = build(cfg.model), build(cfg.data)
    for part in ("baseline", "optim", "tracker"):
        build(cfg[part])
    layers = geometry(_abstract(model, data), (1, *data.shape))
    rules = {}
    if cfg.method.name != Method.float:
        rules = assign(list(layers), build_rules(cfg))
        check_blocks(rules, layers)
    return Cell(cfg, model, data, normalise_for(data), rules, layers, _weights_path(model.weights))


def run_cell(cell: Cell, runs: Path, listen: Listen) -> Outcome:
    """Compute the cell; baselines are kept under `runs`. A loss that is no longer a number ends it with
    status `diverged`.
    """
    cfg, curves = cell.cfg, {}
    started = time.monotonic()
    metrics: dict[str, float] = {}
    layers: list[dict[str, Any]] = []
    model = float_model = None
    try:
        float_model, curves["baseline"] = baseline(cell, runs, listen)
        metrics |= _evaluate(cell, float_model, "_float") | {"size_bytes_float": float_bytes(float_model)}
        model = float_model
        if cfg.method.name != Method.float:
            reference = folded_or_not(float_model, cfg.method.batch_norm)
            model = quantize(cell, reference)
            if cfg.method.name == Method.qat:
                curves["qat"] = train(cell, model, listen)
            layers = anatomy(reference, model, cell.layers, _anatomy_batch(cell), trained=cfg.method.name == Method.qat)
        metrics |= _evaluate(cell, model, "") if model is not float_model else _as_quantized(metrics)
        metrics |= _costs(cell, model) | _summary(layers)
        status, message = "finished", None
    except Diverged as error:
        status, message = "diverged", str(error)
        curves["diverged"] = error.curves
    metrics["seconds"] = time.monotonic() - started
    shown, kept = ([], {}) if model is None else (audit(model), float_tensors(model))
    return Outcome(status, metrics, layers, shown, kept, {name: c for name, c in curves.items() if c}, message)


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
        curves = _fit(cell, network, build(cfg.baseline), "baseline", listen)
        network.eval()
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
    return quantize_model(float_model, cell.rules, cell.layers, statistics, ptq=ptq)


def train(cell: Cell, model: nnx.Module, listen: Listen) -> Curves:
    """Quantization-aware training of `model` in place."""
    if cell.cfg.method.batch_norm == BatchNorm.train:
        model.train()
    curves = _fit(cell, model, build(cell.cfg.optim), "qat", listen)
    model.eval()
    return curves


def folded_or_not(model: nnx.Module, policy: str) -> nnx.Module:
    """The network that is quantized under a batch-norm policy."""
    return fold_batch_norm(model) if policy == BatchNorm.fold else model


@program(static_argnums=(0, 1, 2))
def initial_state(model, shape, classes, seed):
    """The state of a network with random weights."""
    return nnx.state(model.build(shape, classes, rngs=nnx.Rngs(jax.random.key(seed))))


def _abstract(model: Any, data: Any) -> nnx.Module:
    """The network in evaluation mode, without numbers in it."""
    network = nnx.eval_shape(lambda: model.build(data.shape, data.classes, rngs=nnx.Rngs(0)))
    network.eval()
    return network


def _fit(cell: Cell, model: nnx.Module, recipe: Any, stage: str, listen: Listen) -> Curves:
    images, labels = cell.data.train()
    return fit(
        model,
        images,
        labels,
        recipe=recipe,
        normalise=cell.normalise,
        augment=Augment(cell.data.flip, cell.data.crop),
        seed=cell.cfg.seed,
        listen=lambda step, total, point: listen(stage, step, total, point),
    )


def _evaluate(cell: Cell, model: nnx.Module, suffix: str) -> dict[str, float]:
    images, labels = cell.data.test()
    found = accuracy(model, images, labels, cell.normalise)
    return {f"{name}{suffix}": value for name, value in found.items()}


def _as_quantized(metrics: dict[str, float]) -> dict[str, float]:
    """A float run reports its numbers under the plain names too."""
    return {
        name.removesuffix("_float"): value for name, value in metrics.items() if name in ("top1_float", "loss_float")
    }


def _anatomy_batch(cell: Cell) -> jax.Array:
    images, _ = cell.data.test()
    return cell.normalise(images[: cell.cfg.anatomy_images])


def _costs(cell: Cell, model: nnx.Module) -> dict[str, float]:
    costs = layer_costs(model, cell.layers).values()
    return {
        "size_bytes": quantized_bytes(model, cell.layers),
        "macs": sum(cost.macs for cost in costs),
        "bitops": sum(cost.bitops for cost in costs),
        "bytes_moved": sum(cost.bytes_moved for cost in costs),
        "energy_arithmetic_uj_estimate": sum(cost.energy_arithmetic_uj for cost in costs),
        "energy_memory_uj_estimate": sum(cost.energy_memory_uj for cost in costs),
    }


def _summary(layers: list[dict[str, Any]]) -> dict[str, float]:
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
