"""Cells are paired where they differ in one key alone; the figures are checked against sums by hand."""

import io

import pytest
from rich.console import Console

from qresearch.reports.comparison import compare, comparison_rows, comparison_table
from qresearch.store.index import flat

STATIC, LSQ = "qresearch.quantizers.static.Static", "qresearch.quantizers.lsq.LSQ"
ABSMAX, MSE = "qresearch.observers.absmax.AbsMax", "qresearch.observers.mse.MSE"
SEEDS = (0, 1, 2)
# top-1 by method and bits for three seeds, and what the float networks of the seeds reach
TOP1 = {
    ("ptq", 8): (96.0, 97.0, 98.0),
    ("qat", 8): (96.5, 96.9, 97.7),
    ("ptq", 2): (12.0, 15.0, 9.0),
    ("qat", 2): (90.0, 91.0, 92.0),
}
FLOAT = (96.1, 97.1, 98.1)


def config(method="ptq", bits=8, seed=0, *, observer=ABSMAX, rate=0.01, granularity="channel"):
    """Nested, with what the methods set for themselves."""
    quantizer = LSQ if method == "qat" else STATIC
    side = {"bits": bits, "granularity": granularity, "quantizer": {"_target_": quantizer}}
    return {
        "model": {"_target_": "qresearch.models.cnn.CNN", "width": 16},
        "method": {"name": method, "batch_norm": "train" if method == "qat" else "fold"},
        "weight": side | {"observer": {"_target_": observer}},
        "ptq": {"_target_": "qresearch.ptq.rtn.RTN"},
        "optim": {"learning_rate": rate},
        "rules": {"every": {"match": ".*", "weight": {}}},
        "seed": seed,
        "tracker": {"project": f"{method}"},
        "runs_dir": f"runs_{seed}",
    }


def record(method, bits, seed, top1=None, **changes):
    values = {name: changes.pop(name) for name in ("observer", "rate", "granularity") if name in changes}
    metrics = {"top1": TOP1[method, bits][seed] if top1 is None else top1, "top1_float": FLOAT[seed]}
    found = {"status": "finished", "config": config(method, bits, seed, **values), "metrics": metrics}
    return found | changes


@pytest.fixture
def grid():
    return [record(method, bits, seed) for (method, bits) in TOP1 for seed in SEEDS]


def test_methods_are_compared_in_every_setting_over_the_seeds(grid):
    eight, two = compare(grid, "method")
    assert (eight.setting, two.setting) == ({"weight.bits": 8}, {"weight.bits": 2})
    assert (eight.a_name, eight.b_name) == ("ptq", "qat")
    assert (eight.a.mean, eight.b.mean) == pytest.approx((97.0, (96.5 + 96.9 + 97.7) / 3))
    # by hand: 0.5, -0.1, -0.3: mean 1/30, s^2 = 0.17333
    assert eight.difference.mean == pytest.approx(1 / 30)
    assert eight.difference.half == pytest.approx(4.3027 * (0.52 / 3) ** 0.5 / 3**0.5, rel=1e-4)
    assert eight.difference.words.startswith("not significant (p = 0.9")
    # 78, 76, 83: mean 79, s = 3.606
    assert two.difference.words == "better by 79.0 ± 9.0 points (p < 0.001, 3 pairs)"
    assert eight.unpaired == two.unpaired == 0


def test_flat_configurations_give_the_same(grid):
    as_indexed = [found | {"config": flat(found["config"])} for found in grid]
    assert as_indexed[0]["config"]["weight.quantizer._target_"] == STATIC
    assert compare(as_indexed, "method") == compare(grid, "method.name")


def test_a_leaf_is_compared_with_all_else_equal(grid):
    ptq, qat = compare(grid, "weight.bits")
    assert (ptq.a_name, ptq.b_name, ptq.difference.mean) == ("8", "2", pytest.approx(12 - 97))
    assert ptq.setting == {"method.name": "ptq"} and qat.setting == {"method.name": "qat"}
    assert compare(grid, "weight.granularity") == []  # one value


def test_cells_that_differ_in_a_second_key_are_no_pair():
    records = [record("ptq", 8, 0), record("qat", 2, 0), record("qat", 8, 1), record("qat", 8, 0, granularity="tensor")]
    assert compare(records, "method") == []


def test_keys_that_change_together_are_given_together():
    def with_observer(bits, observer, seed):
        return record("ptq", bits, seed, observer=observer)

    records = [with_observer(bits, observer, s) for s in SEEDS for bits, observer in ((8, ABSMAX), (2, MSE))]
    assert compare(records, "weight.bits") == []
    (found,) = compare(records, ["weight.bits", "weight.observer"])
    assert (found.a_name, found.b_name, found.setting) == ("8, AbsMax", "2, MSE", {})


def test_variants_of_a_method_are_compared_one_by_one():
    records = [record("ptq", 8, s, observer=observer) for s in SEEDS for observer in (ABSMAX, MSE)]
    records += [record("qat", 8, s) for s in SEEDS]
    assert [(found.a_name, found.b_name) for found in compare(records, "method")] == [
        ("ptq (weight.observer=AbsMax)", "qat"),
        ("ptq (weight.observer=MSE)", "qat"),
    ]


def test_what_a_method_does_not_read_makes_no_variant_of_it():
    records = [record(method, 8, s, rate=rate) for s in SEEDS for method in ("ptq", "qat") for rate in (0.1, 0.01)]
    assert [(found.a_name, found.b_name) for found in compare(records, "method")] == [
        ("ptq", "qat (optim.learning_rate=0.1)"),
        ("ptq", "qat (optim.learning_rate=0.01)"),
    ]


def test_pairs_have_one_float_baseline_and_both_have_finished(grid):
    other_weights = [found for found in grid if found["config"]["weight"]["bits"] == 8]
    other_weights[4]["metrics"]["top1_float"] = 90.0  # qat, seed 1
    (found,) = compare(other_weights, "method")
    assert (found.difference.n, found.unpaired) == (2, 1)
    assert found.a.mean == pytest.approx(97.0) and found.b.mean == pytest.approx((96.5 + 97.7) / 2)
    other_weights[3] = other_weights[3] | {"status": "diverged", "metrics": {"seconds": 1.0}}
    (found,) = compare(other_weights, "method")
    assert (found.difference.n, found.unpaired) == (1, 2)
    assert "without a partner" in comparison_rows([found])[1][0][-1]
    assert compare(other_weights[:3], "method") == []


def test_of_two_runs_of_a_cell_the_last_that_finished_counts():
    first = [record("ptq", 8, 0, top1=50.0, finished_at="2026-01-01T00:00:00Z"), record("qat", 8, 0)]
    again = record("ptq", 8, 0, top1=60.0, finished_at="2026-01-02T00:00:00Z")
    broken = record("ptq", 8, 0, status="failed", metrics={}, finished_at="2026-01-03T00:00:00Z")
    for records in ([*first, again, broken], [broken, again, *first]):
        (found,) = compare(records, "method")
        assert {found.a.mean, found.b.mean} == {60.0, 96.5}


def test_float_cells_have_no_partner(grid):
    alone = record("ptq", 8, 0)
    alone["config"]["method"]["name"] = "float"
    assert compare([alone, *grid], "method") == compare(grid, "method")


def test_another_metric_and_what_is_better_in_it(grid):
    for found in grid:
        found["metrics"]["loss"] = 100 - found["metrics"]["top1"]
    _, two = compare(grid, "method", metric="loss", unit="nats", higher_is_better=False)
    assert two.difference.mean == pytest.approx(-79)
    assert two.difference.words == "better by 79.0 ± 9.0 nats (p < 0.001, 3 pairs)"
    assert compare(grid, "method", metric="nothing") == []


def test_an_unknown_key_is_said(grid):
    with pytest.raises(ValueError, match=r"No record has the key weight\.bit; give one of the configuration"):
        compare(grid, "weight.bit")


def test_table_in_words(grid):
    text = io.StringIO()
    Console(file=text, width=160).print(comparison_table(compare(grid, "method"), title="PTQ [and] QAT"))
    title, head, first, second = (" ".join(line.split()) for line in text.getvalue().splitlines())
    assert title == "PTQ [and] QAT (3 pairs each)"
    assert head == "bits a b b against a"
    assert first == "8 ptq 97.0 ± 2.5 qat 97.0 ± 1.5 not significant (p = 0.9)"
    assert second == "2 ptq 12.0 ± 7.5 qat 91.0 ± 2.5 better by 79.0 ± 9.0 points (p < 0.001)"
