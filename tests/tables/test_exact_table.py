"""Exact tables: digits as printed decide, and every name in a table belongs to something."""

import sys
import types
from decimal import Decimal

import pytest
import yaml

from qresearch.reports import published
from qresearch.tables.cell import TableCell, TableError, citation, counted
from qresearch.tables.exact_table import ExactTable, verdict
from qresearch.tables.file import read_table
from qresearch.tables.printed import Printed, as_printed, change

ENTRY = {
    "id": "constants",
    "paper": "On Constants",
    "authors": "Ada & Bob",
    "year": 1960,
    "arxiv": "1234.56789",
    "table": "Table 1",
    "metric": "value",
    "unit": "",
    "source": "a copy",
    "tier": "secondary",
    "notes": "",
    "values": {
        "circle": {"pi": "3.14", "tau": "6.2832"},
        "growth": {"e": "2.72", "pi": "3.2"},
        "root": {"tau": "1.4"},
    },
}
COMPUTED = {
    ("circle", "pi"): 3.14159265,
    ("circle", "tau"): 6.28318531,
    ("growth", "e"): 2.71828183,
    ("growth", "pi"): 3.14159265,
    ("root", "tau"): 1.41421356,
    ("root", "phi"): 1.61803399,
}
REASONS = {"growth": {"pi": "printed for the legislature of Indiana"}}


@pytest.fixture(autouse=True)
def constants(tmp_path, monkeypatch):
    """One published entry, and the function `constants.rows` that computes it."""
    file = tmp_path / "published.yaml"
    file.write_text(yaml.safe_dump([ENTRY]))
    monkeypatch.setattr(published, "FILE", file)
    published._entries.cache_clear()
    module = types.ModuleType("constants")
    module.rows = lambda: [(row, column, value) for (row, column), value in COMPUTED.items()]  # type: ignore
    monkeypatch.setitem(sys.modules, "constants", module)
    yield module
    published._entries.cache_clear()


def table(**changes):
    given = {"title": "Constants", "published": "constants", "compute": "constants.rows", "reasons": REASONS}
    return ExactTable(**(given | changes))


@pytest.mark.parametrize(
    ("text", "decimals", "value", "word"),
    [
        ("1.596", None, 1.5956, "reproduced"),
        ("1.596", None, 1.5954, "outside"),
        ("1.596", None, 1.5965, "reproduced"),  # on the border
        ("1.596", None, 1.59650001, "outside"),
        ("1.5960", None, 1.5956, "outside"),  # the zero is printed: one more digit is meant
        ("1.596", 4, 1.5956, "outside"),  # the zero got lost
        ("1.59612345", 3, 1.5966, "reproduced"),  # compared at three decimals
        ("-0.25", None, -0.2549, "reproduced"),
        ("2e-3", None, 0.0024, "reproduced"),
        ("2e-3", None, 0.0026, "outside"),
        ("120", None, 120.4, "reproduced"),
        ("1.2e2", None, 124.0, "reproduced"),  # two digits are printed
        ("1.2e2", None, 126.0, "outside"),
    ],
)
def test_half_a_unit_of_the_last_printed_digit_decides(text, decimals, value, word):
    assert verdict(value, as_printed(text, decimals)) == word


@pytest.mark.parametrize("text", ["", "n/a", "91.5 ± 0.1", "nan", "Infinity", "1,5"])
def test_what_is_no_number_is_said(text):
    with pytest.raises(ValueError, match="is no number"):
        as_printed(text)


def test_printed_numbers_keep_their_digits():
    assert str(as_printed("91.50")) == "91.50"
    assert str(as_printed("1.224", 4)) == "1.2240"
    assert str(as_printed("\N{MINUS SIGN}0.06")) == "-0.06"
    assert change(as_printed("91.55"), as_printed("91.5")) == Printed(Decimal("0.05"), 2)
    assert change(as_printed("92.82"), as_printed("92.88")).value == Decimal("-0.06")  # exactly


def test_cells_are_the_published_ones_and_what_is_computed_besides():
    view = table().view()
    assert view.title == "Constants" and view.seeds == 0 and view.comparisons is None
    assert {(cell.row, cell.column): cell.word for cell in view.cells} == {
        ("circle", "pi"): "reproduced",
        ("circle", "tau"): "reproduced",
        ("growth", "e"): "reproduced",
        ("growth", "pi"): "outside",
        ("root", "tau"): "reproduced",
        ("root", "phi"): "-",
    }
    outside = view.cells[3]
    assert isinstance(outside, TableCell) and outside.measured is not None
    assert (outside.measured.mean, outside.published, outside.digits) == (3.14159265, "3.2", 3)
    assert outside.difference == pytest.approx(-0.05840735)
    assert outside.reason == REASONS["growth"]["pi"]
    assert view.notes == [
        'published: Ada & Bob, "On Constants", 1960, arXiv:1234.56789, Table 1 (read in a copy).',
        "6 cells: 1 measured, 4 reproduced, 1 outside; computed just now.",
    ]


def test_columns_choose_and_order():
    cells = table(columns=["tau", "pi"]).view().cells
    assert [(cell.row, cell.column) for cell in cells] == [
        ("circle", "tau"),
        ("circle", "pi"),
        ("growth", "pi"),
        ("root", "tau"),
    ]


def test_decimals_of_a_column():
    cells = {(cell.row, cell.column): cell for cell in table(decimals={"tau": 2}).view().cells}
    assert cells["circle", "tau"].published == "6.28" and cells["circle", "tau"].word == "reproduced"
    assert cells["root", "tau"].published == "1.40" and cells["root", "tau"].word == "outside"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": "constant"}, r"published=constant: .*no such entry; there are constants"),
        ({"columns": ["pie"]}, r"published constants has no column 'pie'; it has \['e', 'pi', 'tau'\]"),
        ({"compute": "constants.row"}, r"compute=constants\.row: there is no such function"),
        ({"compute": "nowhere.rows"}, r"compute=nowhere\.rows: there is no such function"),
        ({"decimals": {"pie": 2}}, r"decimals: there is no column 'pie'"),
        ({"reasons": {"square": {"pi": "?"}}}, r"reasons: there is no cell in row 'square', column 'pi'"),
    ],
)
def test_names_that_do_not_exist_are_one_message(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes).view()


def test_a_value_that_was_not_computed_is_said(constants):
    constants.rows = lambda: []
    with pytest.raises(TableError, match=r"constants\.rows returned no value for row 'circle', column 'pi'"):
        table().view()


def test_read_from_a_file(tmp_path):
    path = tmp_path / "constants.yaml"
    given = {"title": "C", "published": "constants", "compute": "constants.rows", "decimals": None, "columns": None}
    path.write_text(
        yaml.safe_dump({"_target_": "qresearch.tables.exact_table.ExactTable", **given, "reasons": REASONS})
    )
    assert read_table(path) == table(title="C")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, r"_target_ must be one of .*ExactTable, .*SweepTable"),
        ({"titel": "C"}, r"titel: Key 'titel' not in 'ExactTable'\. ExactTable has the keys title, published"),
        ({"title": None}, r"title: "),
        ({"reasons": {"growth": "?"}}, r"reasons\.growth: "),
        ({"decimals": {"pi": "two"}}, r"decimals\.pi: Value 'two'"),
    ],
)
def test_a_file_that_is_no_table_says_the_key_and_the_rule(change, message, tmp_path):
    path = tmp_path / "constants.yaml"
    given = {"_target_": "qresearch.tables.exact_table.ExactTable", "title": "C", "published": "constants"}
    path.write_text(yaml.safe_dump(given | {"compute": "constants.rows"} | change))
    with pytest.raises(TableError, match=rf"constants\.yaml: {message}"):
        read_table(path)


@pytest.mark.parametrize("text", ["title: [", "just words", "- a\n- b\n", ""])
def test_a_file_that_is_no_mapping_is_said(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(TableError, match=r"broken\.yaml: "):
        read_table(path)


def test_a_missing_key_is_said(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({"_target_": "qresearch.tables.exact_table.ExactTable", "title": "C"}))
    with pytest.raises(TableError, match=r"short\.yaml: published: .*missing"):
        read_table(path)


def test_citations_and_counts():
    entry = published.published("constants")
    assert citation(published.dataclasses.replace(entry, arxiv="", authors="")) == (
        'published: "On Constants", 1960, Table 1 (read in a copy).'
    )
    cells = [TableCell("a", "b", None, None, None, word) for word in ("not run", "reproduced", "not run")]
    assert counted(cells) == "3 cells: 1 reproduced, 2 not run"
    assert counted(cells[:1]) == "1 cell not run" and counted(cells[::2]) == "2 cells not run"
