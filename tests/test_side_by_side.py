"""Cells of a group computed side by side: the numbers that they have alone, and none the worse for their neighbours."""

import re

import pytest

from qresearch.cells.cell import prepare
from qresearch.cells.compute import run_cells
from qresearch.config.check import check
from qresearch.store.shared import Shared
from tiny import TINY, compose


def cell_of(*overrides):
    return prepare(check(compose(*TINY, *overrides)))


def silent(*told):
    pass


def alone(cell, folder):
    """The outcome of a cell that is computed by itself."""
    (outcome,) = run_cells([cell], Shared(folder), silent)
    return outcome


def numbers(outcome):
    return {name: value for name, value in outcome.metrics.items() if name not in ("seconds", "stacked")}


def assert_close(found, alone, rel):
    """Outcomes of the same cell, side by side with others and alone."""
    assert (found.status, found.error) == (alone.status, alone.error)
    assert numbers(found) == pytest.approx(numbers(alone), rel=rel, abs=1e-6)
    assert found.costs == alone.costs and found.audit == alone.audit and found.float_tensors == alone.float_tensors
    for row, other in zip(found.layers, alone.layers, strict=True):
        assert row == {
            name: value if isinstance(value, str) else pytest.approx(value, rel=rel, abs=1e-6)
            for name, value in other.items()
        }


def test_ptq_cells_side_by_side_are_what_they_are_alone(tmp_path):
    """Bits, seeds and calibration of their own."""
    spans = ((8, 0), (4, 1), (2, 0))
    cells = [cell_of(f"act.bits={bits}", f"weight.bits={bits}", f"seed={seed}") for bits, seed in spans]
    cells.append(cell_of("seed=1", "calibration.images=3", "anatomy_images=4"))
    found = run_cells(cells, Shared(tmp_path), silent)
    for cell, outcome in zip(cells, found, strict=True):
        assert_close(outcome, alone(cell, tmp_path), rel=1e-4)
    assert len({outcome.metrics["loss"] for outcome in found}) == len(cells)


# After 23 steps of training. Measured: 1e-7, and no image; but other programs may add sums in another order, and then a
# value near a tie falls to the other side.
QAT_LOSS, QAT_TOP1 = 1e-3, 1.0
RATES = [0.05, 3, 0.01, 0.02]


def test_qat_cells_side_by_side_learn_what_they_learn_alone(tmp_path):
    """One of them diverges, which leaves the others alone; one takes two epochs and so goes by itself."""
    base = ["method=qat", "weight.bits=4", "act.bits=4"]
    cells = [cell_of(*base, f"optim.learning_rate={rate}", f"seed={n % 2}") for n, rate in enumerate(RATES)]
    cells.append(cell_of(*base, "optim.epochs=2"))
    heard = []
    found = run_cells(cells, Shared(tmp_path), lambda *told: heard.append(told))
    assert [outcome.status for outcome in found] == ["finished", "diverged", *["finished"] * 3]
    for number, (cell, outcome) in enumerate(zip(cells, found, strict=True)):
        other = alone(cell, tmp_path)
        stage = "diverged" if number == 1 else "qat"
        curve, lone = outcome.curves[stage], other.curves[stage]
        assert [said[4] for said in heard if said[:2] == (number, "qat")] == curve
        assert [point["step"] for point in curve] == [point["step"] for point in lone]
        assert [point["loss"] for point in curve] == pytest.approx([point["loss"] for point in lone], rel=QAT_LOSS)
        assert outcome.curves["baseline"] == other.curves["baseline"]
        if number != 1:
            assert outcome.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=QAT_LOSS)
            assert outcome.metrics["top1"] == pytest.approx(other.metrics["top1"], abs=QAT_TOP1)
            assert len(outcome.layers) == 9 and outcome.audit == other.audit
    assert [len(outcome.curves.get("qat", ())) for outcome in found] == [23, 0, 23, 23, 46]
    assert "top1" not in found[1].metrics and found[1].layers == []
    steps = len(found[1].curves["diverged"])
    assert steps > 0 and re.match(rf"The scale/\S+ is -\S+ after step {steps + 1};", found[1].message)
    assert [outcome.together for outcome in found] == [4, 4, 4, 4, 1]


def test_a_cell_that_cannot_be_leaves_those_beside_it_alone(tmp_path):
    """A number that only the data can judge."""
    cells = [cell_of("calibration.images=1501"), cell_of("weight.bits=4"), cell_of("baseline.learning_rate=1e30")]
    broken, fine, diverged = run_cells(cells, Shared(tmp_path), silent)
    assert "count=1501" in str(broken.error) and broken.metrics.keys() == {"seconds"}
    assert diverged.status == "diverged" and "baseline.learning_rate" in diverged.message and diverged.error is None
    assert_close(fine, alone(cells[1], tmp_path), rel=1e-4)
