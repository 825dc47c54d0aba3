"""Tables of runs: what is planned, which records count, and the word of every cell."""

import math

import pytest
import yaml

from qresearch.compose import Composer
from qresearch.config.check import check, config_hash
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.reports import published
from qresearch.reports.statistics import accuracy_interval
from qresearch.store.record import write_json
from qresearch.tables.cell import TableError
from qresearch.tables.file import read_table
from qresearch.tables.metric import terms
from qresearch.tables.planned_cells import cells_of, find_records
from qresearch.tables.sweep_table import Budget, SweepTable, UnknownBudget
from qresearch.tables.sweep_view import sweep_view

ENTRY = {
    "id": "nets",
    "paper": "Nets",
    "authors": "Ada",
    "year": 2020,
    "arxiv": "",
    "table": "Table 2",
    "metric": "top1",
    "unit": "%",
    "source": "the paper",
    "tier": "primary",
    "notes": "",
    "values": {"PTQ": {"8": "97.0", "4": "90.5", "float": "97.25"}, "QAT": {"8": "97.1", "4": "96.0"}},
}
BUDGETS = {"smoke": Budget(1.0, "a clock", seeds=[0]), "short": Budget(2.0, "two cores")}


@pytest.fixture(autouse=True)
def entry(tmp_path, monkeypatch):
    """The one published entry."""
    file = tmp_path / "published.yaml"
    file.write_text(yaml.safe_dump([ENTRY]))
    monkeypatch.setattr(published, "FILE", file)
    published._entries.cache_clear()
    yield
    published._entries.cache_clear()


def table(**changes):
    given = {
        "title": "Nets",
        "rows": {"PTQ": ["method=ptq"], "QAT": ["method=qat"]},
        "columns": {"8": ["weight.bits=8"], "4": ["weight.bits=4", "act.bits=${weight.bits}"]},
        "budgets": BUDGETS,
        "overrides": ["model=mlp"],
        "published": "nets",
        "tolerance": 0.5,
        "decimals": 1,
    }
    return SweepTable(**(given | changes))


def record(top1, status="finished", message=None, **metrics):
    values = {"top1": top1, "top1_float": 97.0, "test_images": 1000} if status == "finished" else {}
    config = {"method": {"name": "ptq"}, "seed": 0}
    return {"status": status, "message": message, "config": config, "metrics": values | metrics}


def viewed(made, budget="short", **changes):
    """The cells where `made` has a list of records (None: not run) for a row and a column."""
    found, left = table(**changes), {place: list(records) for place, records in made.items()}
    runs = []
    for planned in found.plan(found.budget(budget)):
        records = left.get((planned.row, planned.column), [])
        runs.append((planned, records.pop(0) if records else None))
    view = sweep_view(found, found.budget(budget), runs)
    return {(cell.row, cell.column): cell for cell in view.cells}, view


def test_a_plan_is_all_overrides_in_their_order():
    plan = table().plan(Budget(1.0, "x", overrides=["optim.epochs=1"]))
    assert len(plan) == 2 * 2 * 3
    assert plan[5] == (
        "PTQ",
        "4",
        2,
        ["model=mlp", "method=ptq", "weight.bits=4", "act.bits=${weight.bits}", "optim.epochs=1", "seed=2"],
    )
    few = table().plan(Budget(1.0, "x", seeds=[7], rows=["QAT"], columns=["4"]))
    assert [planned[:3] for planned in few] == [("QAT", "4", 7)]


def test_short_is_shown_where_no_budget_is_named():
    assert table().budget(None) is BUDGETS["short"]
    assert table(budgets={"paper": BUDGETS["short"], "smoke": BUDGETS["smoke"]}).budget(None) is BUDGETS["smoke"]
    with pytest.raises(UnknownBudget, match=r"There is no budget 'long'; there are smoke, short\."):
        table().budget("long")


def test_within_the_tolerance_of_the_mean_is_reproduced():
    made = {
        ("PTQ", "8"): [record(96.0), record(97.0), record(98.5)],  # mean 97.17
        ("PTQ", "4"): [record(89.0), record(89.9), record(91.1)],  # mean 90.0: half a point off, on the border
        ("QAT", "8"): [record(97.6), record(97.7), record(97.8)],  # 0.6 off
    }
    cells, view = viewed(made)
    first = cells["PTQ", "8"]
    assert first.measured is not None and first.measured.half is not None
    assert first.measured.mean == pytest.approx(97.1667, abs=1e-4) and first.measured.n == 3
    assert first.measured.half == pytest.approx(4.3027 * math.sqrt(1.58333 / 3), rel=1e-4)
    assert first.difference == pytest.approx(0.1667, abs=1e-4) and first.published == "97.0"
    assert {place: cell.word for place, cell in cells.items()} == {
        ("PTQ", "8"): "reproduced",
        ("PTQ", "4"): "reproduced",
        ("QAT", "8"): "outside",
        ("QAT", "4"): "not run",
    }
    assert "4 cells: 2 reproduced, 1 outside, 1 not run (9 of 12 runs are there)" in view.notes[-1]
    assert view.notes[-1].endswith("All of it takes 2 minutes on two cores.")


def test_a_wide_interval_reproduces_nothing():
    cells, _ = viewed({("PTQ", "8"): [record(80.0), record(90.0), record(99.0)]})
    cell = cells["PTQ", "8"]
    assert cell.measured and cell.measured.half and abs(cell.difference or 0) < cell.measured.half
    assert cell.word == "outside"


def test_a_cell_with_missing_seeds_has_no_verdict_yet():
    cells, _ = viewed({("PTQ", "8"): [record(97.0), None, record(97.0)]})
    cell = cells["PTQ", "8"]
    assert (cell.word, cell.reason) == ("not run", "not run yet: seed 1")
    assert cell.measured and cell.measured.n == 2
    assert (cells["QAT", "8"].word, cells["QAT", "8"].reason, cells["QAT", "8"].measured) == ("not run", "", None)


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_failed_or_diverged_run_is_the_word_of_its_cell(status):
    message = "Traceback (most recent call last):\n  File x\nValueError: no" if status == "failed" else "loss is nan"
    cells, _ = viewed({("PTQ", "8"): [record(97.0), record(0, status, message), None]})
    cell = cells["PTQ", "8"]
    assert cell.word == status and cell.measured and cell.measured.n == 1
    assert cell.reason == ("seed 1: ValueError: no" if status == "failed" else "seed 1: loss is nan")


def test_another_setting_says_so_with_its_reason():
    different = {"PTQ": {"8": "another float network"}, "QAT": "trained for longer"}
    three = [record(97.0)] * 3
    cells, _ = viewed(dict.fromkeys([("PTQ", "8"), ("PTQ", "4"), ("QAT", "8")], three), different=different)
    assert [(cell.word, cell.reason) for cell in cells.values()] == [
        ("different setting", "another float network"),
        ("outside", ""),
        ("different setting", "trained for longer"),
        ("not run", ""),
    ]
    assert cells["PTQ", "8"].difference == 0


def test_one_run_has_the_binomial_interval_of_its_accuracy():
    cells, _ = viewed({("PTQ", "8"): [record(97.0)]}, budget="smoke")
    cell = cells["PTQ", "8"]
    assert cell.measured and cell.measured.half is None
    assert cell.bounds == accuracy_interval(97.0, 1000) and cell.word == "reproduced"
    old = record(97.0)
    del old["metrics"]["test_images"]  # of schema 1
    assert viewed({("PTQ", "8"): [old]}, budget="smoke")[0]["PTQ", "8"].bounds is None


def test_differences_of_metrics_and_of_published_columns():
    changes = {
        "rows": {"PTQ": []},
        "columns": {"8": [], "8 - float": []},
        "metric": {"8": "top1", "8 - float": "top1 - top1_float"},
        "decimals": 2,
    }
    cells, _ = viewed({("PTQ", "8 - float"): [record(96.9), record(96.5), record(96.7)]}, **changes)
    cell = cells["PTQ", "8 - float"]
    assert cell.published == "-0.25" and cell.measured and cell.measured.mean == pytest.approx(-0.3)
    assert cell.word == "reproduced" and cell.difference == pytest.approx(-0.05)


def test_places_say_where_a_published_value_is():
    rows, columns = {"ours": []}, {"int8": [], "int2": []}
    places = {"ours": {"int8": ["PTQ", "8"], "int2": None}}
    cells, _ = viewed({("ours", "int2"): [record(20.0)] * 3}, rows=rows, columns=columns, places=places)
    assert cells["ours", "int8"].published == "97.0"
    assert (cells["ours", "int2"].published, cells["ours", "int2"].word) == (None, "-")


def test_nothing_published_has_no_verdict():
    cells, view = viewed({("PTQ", "8"): [record(97.0)] * 3}, published=None, tolerance=None)
    assert [cell.word for cell in cells.values()] == ["-", "not run", "not run", "not run"]
    assert not any("published" in note for note in view.notes)


def test_paired_comparisons_stand_below():
    def of(method, seed, top1):
        found = record(top1)
        return found | {"config": {"method": {"name": method}, "weight": {"bits": 8}, "seed": seed}}

    made = {
        ("PTQ", "8"): [of("ptq", seed, 90.0 + seed) for seed in range(3)],
        ("QAT", "8"): [of("qat", seed, 95.0 + seed + 0.1 * (seed == 2)) for seed in range(3)],
    }
    _, view = viewed(made, compare=["method"])
    assert view.comparisons is not None
    head, rows = view.comparisons
    assert head == ["a", "mean of a", "b", "mean of b", "b against a"]
    assert rows == [["ptq", "91.0 ± 2.5", "qat", "96.0 ± 2.6", "better by 5.0 ± 0.1 points (p < 0.001, 3 pairs)"]]
    assert viewed({}, compare=["method"])[1].comparisons is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "rows, columns, budgets and seeds must each have something"),
        ({"seeds": []}, "rows, columns, budgets and seeds must each have something"),
        ({"budgets": {"long": BUDGETS["short"]}}, "budgets: 'long' is none of smoke, short, paper"),
        ({"budgets": {"smoke": Budget(1.0, "x", rows=["ptq"])}}, r"budgets\.smoke\.rows: 'ptq' is none of PTQ, QAT"),
        ({"budgets": {"smoke": Budget(1.0, "x", columns=["2"])}}, r"budgets\.smoke\.columns: '2' is none of 8, 4"),
        ({"budgets": {"smoke": Budget(1.0, "x", seeds=[])}}, r"budgets\.smoke: rows, columns and seeds must each"),
        ({"seeds": [0, 1, 0]}, r"budgets\.short: the seeds \[0, 1, 0\] name a run twice"),
        ({"tolerance": None}, "tolerance must say how near"),
        ({"places": {"LSQ": {}}}, "places: 'LSQ' is none of PTQ, QAT"),
        ({"places": {"PTQ": {"2": None}}}, r"places\.PTQ: '2' is none of 8, 4"),
        ({"places": {"PTQ": {"8": ["PTQ"]}}}, r"places\.PTQ\.8: \['PTQ'\] is not \[published row, published column\]"),
        ({"different": {"PTQ": {"2": "?"}}}, r"different\.PTQ: '2' is none of 8, 4"),
        ({"metric": {"8": "top1"}}, "columns: '4' is none of 8"),
        ({"metric": {"8": "top1", "4": "top1", "2": "top1"}}, "metric: '2' is none of 8, 4"),
        ({"metric": "top1 - top1_float", "compare": ["method"]}, "compare needs one metric"),
        ({"decimals": {"8": 1}}, "columns: '4' is none of 8"),
        ({"decimals": {"8": 1, "4": 1, "2": 1}}, "decimals: '2' is none of 8, 4"),
        ({"decimals": {"8": 1, "4": -1}}, "decimals: -1 is no number of decimals"),
        ({"decimals": "two"}, "decimals: 'two' is no number of decimals"),
    ],
)
def test_names_of_a_table_belong_to_something(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": "net"}, "published=net: .* there are nets"),
        ({"places": {"PTQ": {"8": ["LSQ", "8"]}}}, "published nets has no row 'LSQ'; it has PTQ, QAT"),
        ({"places": {"PTQ": {"8": ["PTQ", "2"]}}}, "published nets, row 'PTQ': there is no '2'; there are 4, 8, float"),
        ({"places": {"QAT": {"8": ["QAT", "8 - float"]}}}, "row 'QAT': there is no 'float'"),
    ],
)
def test_what_is_published_must_exist(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes).check_published()


def test_a_metric_that_records_lack_is_said():
    with pytest.raises(TableError, match=r"metric: there is no 'top5'; there are test_images, top1, top1_float"):
        viewed({("PTQ", "8"): [record(97.0)]}, metric="top5")
    assert terms("a - b", {"a - b": 1, "a": 3, "b": 1}) == (1, None)  # a name may have a minus in it


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


def test_hashes_are_those_of_runs_with_these_overrides(composer):
    found = cells_of(table(), BUDGETS["short"], composer)
    assert len({key for _, key in found}) == 12
    planned, key = found[5]
    assert key == config_hash(check(composer.compose([*planned.overrides, "tracker=none", "runs_dir=/elsewhere"])))


def test_budgets_that_differ_in_a_number_share_no_run(composer):
    smoke = Budget(1.0, "x", overrides=["optim.epochs=1"])
    found = [{key for _, key in cells_of(table(), budget, composer)} for budget in (smoke, BUDGETS["short"])]
    assert not found[0] & found[1]
    seeds = {key for _, key in cells_of(table(), BUDGETS["smoke"], composer)}
    assert seeds < found[1]  # the same runs, fewer of them


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weight.bit=8", "row 'PTQ', column '8': .*weight.bit"),
        ("weight.bits=many", "row 'PTQ', column '8': .*many"),
        ("weight.bits=8,4", "row 'PTQ', column '8': weight.bits=8,4 spans several cells"),
        ("method=magic", "row 'PTQ', column '8': .*magic"),
        ("weight.bits", "row 'PTQ', column '8': .*weight.bits"),
        ("grad.bits=8", "row 'PTQ', column '8': grad.bits=8 with method=ptq"),
    ],
)
def test_an_override_that_composes_to_nothing_is_one_message(override, message, composer):
    with pytest.raises(TableError, match=message) as caught:
        cells_of(table(columns={"8": [override]}), BUDGETS["smoke"], composer)
    assert "\n" not in str(caught.value)


def test_records_count_wherever_they_lie(tmp_path):
    def write(place, key, status, when):
        found = record(90.0, status) | {"schema": 2, "finished_at": when, "overrides": [], "environment": {}}
        computed = {} if status == "failed" else {"config_hash": key, "group": "g", "layers": []}
        write_json(tmp_path / place / "result.json", found | computed)

    assert find_records(tmp_path / "none") == ({}, [])
    write("2026/a", "aaaaaaaaaaaa", "finished", "2026-01-01T00:00:00+00:00")
    write("sweep/bbbbbbbbbbbb", "", "failed", "2026-01-01T00:00:00+00:00")  # known by its folder
    write("sweep/cccccccccccc", "", "failed", "2026-01-03T00:00:00+00:00")
    write("other/deep/c", "cccccccccccc", "diverged", "2026-01-02T00:00:00+00:00")  # a failure counts where alone
    write("1", "dddddddddddd", "diverged", "2026-01-01T00:00:00+00:00")
    write("2", "dddddddddddd", "finished", "2026-01-02T00:00:00+00:00")  # the last
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "result.json").write_text("{")
    records, bad = find_records(tmp_path)
    assert {key[0]: found["status"] for key, found in records.items()} == {
        "a": "finished",
        "b": "failed",
        "c": "diverged",
        "d": "finished",
    }
    assert len(bad) == 1 and "result.json" in bad[0]


def test_read_from_a_file_with_interpolations_as_they_are(tmp_path):
    path = tmp_path / "nets.yaml"
    given = {"title": "N", "rows": {"PTQ": ["act.bits=${weight.bits}"]}, "columns": {"8": []}, "note": "a ${b}"}
    budgets = {"smoke": {"minutes": 1, "hardware": "x", "seeds": [3]}}
    target = {"_target_": "qresearch.tables.sweep_table.SweepTable"}
    path.write_text(yaml.safe_dump(target | given | {"budgets": budgets}))
    found = read_table(path)
    assert found == SweepTable(**given, budgets={"smoke": Budget(1.0, "x", seeds=[3])})
    assert isinstance(found, SweepTable) and found.seeds == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"PTQ": "method=ptq"}}, r"rows\.PTQ: "),
        ({"rows": {8: []}}, r"rows\.8: Key 8 \(int\)"),
        ({"budgets": {"smoke": {"minute": 1}}}, r"budgets\.smoke\.minute: Key 'minute' not in 'Budget'"),
        ({"budgets": {"smoke": {"minutes": 1}}}, r"budgets\.smoke\.hardware: .*missing"),
        ({"budgets": {"long": {"minutes": 1, "hardware": "x"}}}, "budgets: 'long' is none of smoke, short, paper"),
        ({"seeds": ["a"]}, r"seeds\[0\]: "),
        ({"tolerances": 1}, "tolerances: Key 'tolerances' not in 'SweepTable'"),
    ],
)
def test_a_file_that_is_no_table_says_the_key_and_the_rule(change, message, tmp_path):
    path = tmp_path / "nets.yaml"
    budgets = {"smoke": {"minutes": 1, "hardware": "x"}}
    given = {"_target_": "qresearch.tables.sweep_table.SweepTable", "title": "N", "rows": {"a": []}}
    path.write_text(yaml.safe_dump(given | {"columns": {"b": []}, "budgets": budgets} | change))
    with pytest.raises(TableError, match=rf"nets\.yaml: {message}"):
        read_table(path)
