"""The tables of exact values as their files say them: published cells, our values, the reasons, and a verdict of our
own making, so that the tests do not lean on the code that shows the tables.
"""

import pydoc
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from qresearch.reports.published import published

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SLACK = 1e-9


class Cell(NamedTuple):
    printed: str
    value: float
    decimals: int
    reason: str | None

    @property
    def reproduced(self) -> bool:
        return abs(self.value - float(self.printed)) <= 0.5 * 10.0**-self.decimals + SLACK


def read_table(name: str) -> dict[tuple[str, str], Cell]:
    content = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    values, reasons = published(content["published"]).values, content["reasons"]
    found = pydoc.locate(content["compute"])()
    computed = {(cell.row, cell.column): cell.value for cell in found}
    assert len(computed) == len(found)
    cells = {
        (row, column): Cell(
            printed,
            computed.pop((row, column)),
            (content["decimals"] or {}).get(column, len(printed.partition(".")[2])),
            reasons.get(row, {}).get(column),
        )
        for row, line in values.items()
        for column, printed in line.items()
    }
    assert not computed, f"cells that nobody published: {sorted(computed)}"
    assert set(content["columns"] or ()) in (set(), {column for _, column in cells})
    assert {(row, column) for row, line in reasons.items() for column in line} <= cells.keys()
    return cells


@pytest.fixture
def check_table():
    """All cells of a table, once those that are not reproduced are seen to be those that have a reason."""

    def check(name, *, reproduced, of):
        cells = read_table(name)
        assert (sum(cell.reproduced for cell in cells.values()), len(cells)) == (reproduced, of)
        assert {place for place, cell in cells.items() if not cell.reproduced} == {
            place for place, cell in cells.items() if cell.reason
        }
        return cells

    return check
