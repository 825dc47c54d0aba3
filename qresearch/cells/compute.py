"""Cells in a straight line: baseline, calibrate, quantize, train, evaluate.

Cells of one group run the same compiled programs. Each is computed alone, or several side by side, with a leading axis
of cells that `jax.vmap` gives the same programs; training, evaluation and anatomy are then shared, calibration and the
choice of scales are each cell's own.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from qresearch.cells.cell import Cell
from qresearch.cells.deployment import compare_with_integers
from qresearch.cells.stages import (
    Listen,
    baseline,
    calibration,
    check_data,
    evaluate,
    measure,
    packed_file,
    quantize,
    source,
    train,
)
from qresearch.config.nodes import build
from qresearch.config.schema import BatchNorm, Method
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.cost import LayerCost, layer_costs
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.store.shared import Shared
from qresearch.training.loop import Curves, Diverged


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
    parity: dict[str, Any] | None = None  # simulated beside integer, where it was asked for
    file: bytes | None = None  # the network as a packed file, where it was asked for and can be
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
    check_data(cell)
    float_model, curves = baseline(cell, shared, lambda *point: listen(number, *point))
    if curves:
        outcome.curves["baseline"] = curves
    found = shared.json("evaluation", source(cell), lambda: evaluate(cell, [float_model])[0])
    outcome.metrics |= {f"{name}_float": value for name, value in found.items()}
    energy = {kind: total for kind, total in _totals(layer_costs(float_model, cell.layers)).items() if "energy" in kind}
    outcome.metrics |= {f"{kind}_float": total for kind, total in energy.items()}
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
    for work in works:
        work.outcome.together = len(works)
    try:
        if works[0].cell.cfg.method.name == Method.qat:
            works = _train(works, listen)
        if not works:
            return
        models, cell = [work.model for work in works], works[0].cell
        found = evaluate(cell, models)
        layers = measure(cell, [work.reference for work in works], models)
    except Exception as error:
        for work in works:
            work.outcome.error = error
        return
    for work, accuracy_of, rows in zip(works, found, layers, strict=True):
        _attempt(work.outcome, functools.partial(_describe, work, accuracy_of, rows))


def _train(works: list[Work], listen: Listen) -> list[Work]:
    """Train the networks; returns the cells that did not diverge."""

    def heard(index, *point):
        listen(works[index].number, *point)

    curves = train([work.cell for work in works], [work.model for work in works], heard)
    for work, found in zip(works, curves, strict=True):
        if isinstance(found, Diverged):
            work.outcome.diverge(found)
        else:
            work.outcome.curves["qat"] = found
    return [work for work in works if work.outcome.status == "finished"]


def _describe(work: Work, found: dict[str, float], rows: list[dict[str, Any]]) -> None:
    """Fill in what follows from the finished network."""
    outcome, model, geometry = work.outcome, work.model, work.cell.layers
    outcome.layers, outcome.costs = rows, layer_costs(model, geometry)
    outcome.metrics |= found | {"size_bytes": quantized_bytes(model, geometry)}
    outcome.metrics |= _totals(outcome.costs) | _summary(rows)
    outcome.audit, outcome.float_tensors = audit(model), float_tensors(model)
    if work.cell.cfg.export.file:
        try:
            outcome.file = packed_file(work.cell, model)
            outcome.metrics["file_bytes"] = len(outcome.file)
        except ValueError as error:  # what was computed is kept
            outcome.message = f"There is no packed file of it. {error}"
    if work.cell.cfg.export.parity:
        outcome.parity = compare_with_integers(work.cell, model)
        layers = outcome.parity["layers"]
        outcome.metrics |= {
            "top1_integer": outcome.parity["top1_integer"],
            "parity_equal": min(row["equal"] for row in layers),
            "parity_largest_lsb": max(row["largest_lsb"] for row in layers),
        }


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
