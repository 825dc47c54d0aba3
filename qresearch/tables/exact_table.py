"""Published constants beside our own, computed from first principles when the table is shown.

A cell is reproduced where the computed value rounds to the printed one: |computed - printed| <= half a unit of the
last printed digit.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from hydra.utils import get_method
from omegaconf import MISSING

from qresearch.reports.published import published
from qresearch.reports.statistics import Interval
from qresearch.tables.cell import (
    OUTSIDE,
    REPRODUCED,
    UNPUBLISHED,
    TableCell,
    TableError,
    TableView,
    citation,
    counted,
)
from qresearch.tables.printed import Printed, as_printed

SLACK = 1e-9  # of binary floating point, where the value lies on the border itself
FINER, FINEST = 2, 16  # decimals shown beyond the printed ones, and at most


@dataclasses.dataclass
class ExactTable:
    """One published table against a function that computes it."""

    kind: ClassVar[str] = "exact"

    title: str = MISSING
    published: str = MISSING  # the id of an entry of published.yaml
    compute: str = MISSING  # module.function that returns (row, column, value) of every cell
    columns: list[str] | None = None  # those of the published ones that are shown, in this order; null = all
    decimals: dict[str, int] | None = None  # of columns whose printed zeros got lost
    reasons: dict[str, dict[str, str]] | None = None  # ROW: {COLUMN: why the published value is off}

    def view(self) -> TableView:
        """The table, computed now.

        Raises TableError where the published entry, one of its columns or the function does not exist, where a value
        is missing, and where a reason or a number of decimals belongs to no cell.
        """
        entry = published(self.published)
        values = _chosen(entry.values, self.columns, self.published)
        computed = self._computed()
        cells = [
            self._cell(row, column, text, computed) for row, line in values.items() for column, text in line.items()
        ]
        shown = {(cell.row, cell.column) for cell in cells}
        if self.columns is None:
            cells += [
                TableCell(row, column, Interval(value, None, 1), None, None, UNPUBLISHED, digits=6)
                for (row, column), value in computed.items()
                if (row, column) not in shown
            ]
        self._check_places(shown)
        return TableView(self.title, cells, [citation(entry), f"{counted(cells)}; computed just now."])

    def _cell(self, row: str, column: str, text: str, computed: Mapping[tuple[str, str], float]) -> TableCell:
        if (row, column) not in computed:
            raise TableError(f"{self.compute} returned no value for row {row!r}, column {column!r}; it has to.")
        value = computed[row, column]
        number = self._printed(row, column, text)
        word = verdict(value, number)
        reason = (self.reasons or {}).get(row, {}).get(column, "") if word == OUTSIDE else ""
        digits = min(max(number.decimals + FINER, 0), FINEST)
        difference = value - float(number.value)
        return TableCell(row, column, Interval(value, None, 1), str(number), difference, word, reason, digits)

    def _printed(self, row: str, column: str, text: str) -> Printed:
        try:
            return as_printed(text, (self.decimals or {}).get(column))
        except ValueError as error:
            raise TableError(f"published {self.published}, row {row!r}, column {column!r}: {error}") from error

    def _computed(self) -> dict[tuple[str, str], float]:
        rows = _function(self.compute)()
        return {(row, column): float(value) for row, column, value in rows}

    def _check_places(self, shown: Iterable[tuple[str, str]]) -> None:
        shown, columns = set(shown), {column for _, column in shown}
        for row, line in (self.reasons or {}).items():
            for column in line:
                if (row, column) not in shown:
                    raise TableError(f"reasons: there is no cell in row {row!r}, column {column!r}.")
        for column in self.decimals or {}:
            if column not in columns:
                raise TableError(f"decimals: there is no column {column!r}; the columns are {sorted(columns)}.")


def verdict(value: float, number: Printed) -> str:
    """Whether a value rounds to a printed one."""
    return REPRODUCED if abs(value - float(number.value)) <= number.half_unit + SLACK else OUTSIDE


def _chosen(
    values: Mapping[str, Mapping[str, str]], columns: list[str] | None, entry: str
) -> dict[str, dict[str, str]]:
    """The published cells of the columns that are shown; a row need not have them all."""
    there = {column for line in values.values() for column in line}
    for column in columns or ():
        if column not in there:
            raise TableError(f"published {entry} has no column {column!r}; it has {sorted(there)}.")
    if columns is None:
        return {row: dict(line) for row, line in values.items()}
    return {row: {column: line[column] for column in columns if column in line} for row, line in values.items()}


def _function(path: str) -> Callable[[], Iterable[tuple[str, str, float]]]:
    try:
        return get_method(path)
    except Exception as error:  # Hydra's are of several kinds
        raise TableError(f"compute={path}: there is no such function; give module.function of qresearch.") from error
