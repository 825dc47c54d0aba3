"""Tables of what `qresearch deploy` measures: other units and decimals, less that is better, and runs not measured."""

import pytest

from qresearch.reports.statistics import accuracy_interval
from qresearch.tables.cell import TableError
from qresearch.tables.layout import measured_text
from qresearch.tables.metric import is_unmeasured, unit
from qresearch.tables.sweep_table import Budget, SweepTable
from qresearch.tables.sweep_view import sweep_view

ROWS = {"PTQ": ["method=ptq"], "QAT": ["method=qat"]}
MEASURED = {"litert_top1": 95.5, "litert_latency_ms": 0.25, "litert_bytes": 3000}


def record(method="ptq", seed=0, **metrics):
    config = {"method": {"name": method}, "weight": {"bits": 8}, "seed": seed}
    values = {"top1": 96.0, "top1_float": 97.0, "test_images": 1000} | metrics
    return {"status": "finished", "message": None, "config": config, "metrics": values}


def viewed(made, **given):
    """The cells, by row and column, and the whole view of three seeds of each row; `made` has the records of a row."""
    budgets = {"short": Budget(1.0, "two cores")}
    table = SweepTable(**({"title": "N", "rows": ROWS, "columns": {"8": []}, "budgets": budgets} | given))
    plan = table.plan(budgets["short"])
    view = sweep_view(table, budgets["short"], [(planned, made[planned.row][planned.seed]) for planned in plan])
    return {(cell.row, cell.column): cell for cell in view.cells}, view


def test_measured_figures_stand_beside_accuracies():
    metrics = {"top-1": "litert_top1", "ms": "litert_latency_ms", "bytes": "litert_bytes", "lost": "litert_top1 - top1"}
    given = {"columns": {name: [] for name in metrics}, "metric": metrics, "seeds": [0], "rows": {"PTQ": []}}
    given |= {"decimals": {"top-1": 1, "ms": 3, "bytes": 0, "lost": 2}}
    cells, _ = viewed({"PTQ": [record(**MEASURED)]}, **given)
    low, high = accuracy_interval(95.5, 1000)
    expected = [f"95.5 [{low:.1f}, {high:.1f}]", "0.250", "3000", "-0.50"]
    assert [measured_text(cells["PTQ", column]) for column in metrics] == expected
    assert {cell.word for cell in cells.values()} == {"-"}


def test_what_was_run_and_not_measured_says_so():
    made = {"PTQ": [record(**MEASURED), record(), record()], "QAT": [record(), None, record()]}
    cells, _ = viewed(made, metric="litert_latency_ms")
    cell = cells["PTQ", "8"]
    assert (cell.word, cell.reason) == ("not run", "not measured: seed 1, 2; `qresearch deploy RUNS` does that")
    assert cell.measured and cell.measured.mean == 0.25 and cell.measured.n == 1
    cell = cells["QAT", "8"]
    assert (cell.word, cell.reason, cell.measured) == ("not run", "not run yet: seed 1", None)


def test_a_name_that_nothing_measures_stays_an_error():
    with pytest.raises(TableError, match="metric: there is no 'litert_latency'; there are "):
        viewed({"PTQ": [record()] * 3, "QAT": [record()] * 3}, metric="litert_latency")
    found = {name: is_unmeasured(name, {"top1": 1}) for name in ("top1", "jax_top1", "jax_top5", "top1 - onnx_top1")}
    assert found == {"top1": False, "jax_top1": True, "jax_top5": False, "top1 - onnx_top1": True}


@pytest.mark.parametrize(
    ("metric", "told"),
    [("onnx_latency_ms", "ms"), ("litert_bytes", "bytes"), ("energy_memory_uj_estimate", "uJ (estimate)")],
)
def test_less_may_be_better(metric, told):
    made = {
        "PTQ": [record("ptq", seed, **{metric: 8.0 + seed}) for seed in range(3)],
        "QAT": [record("qat", seed, **{metric: 5.0 + seed + 0.1 * (seed == 2)}) for seed in range(3)],
    }
    for higher_is_better, word in ((False, "better"), (True, "worse")):
        _, view = viewed(made, metric=metric, compare=["method"], decimals=1, higher_is_better=higher_is_better)
        assert view.comparisons is not None
        ((*_, words),) = view.comparisons[1]
        assert words == f"{word} by 3.0 ± 0.1 {told} (p < 0.001, 3 pairs)"


def test_units_of_metrics():
    names = ("top1", "jax_top1", "size_bytes", "bitops", "sqnr_weight_db", "litert_latency_ratio")
    assert [unit(name) for name in names] == ["points", "points", "bytes", "bitops", "dB", "litert_latency_ratio"]
