"""How a table lies on a page: a line for each cell where something is published, else a grid of rows and columns."""

import re
from typing import NamedTuple

from qresearch.reports.statistics import shown
from qresearch.tables.cell import UNPUBLISHED, TableCell, TableView

NUMBER = re.compile(r"[+-]?\d[\d.e+-]*($| ± | \[| \()")  # and its spread


class Entry(NamedTuple):
    """The text of one place of a sheet; `word` is a cell's word, for its colour."""

    text: str
    word: str = ""


class Sheet(NamedTuple):
    """What every format draws: a head, lines of as many entries, and sentences below."""

    title: str
    head: list[str]
    rows: list[list[Entry]]
    notes: list[str]

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, and is set to the right."""
        entries = [row[column] for row in self.rows if row[column].text not in ("", "-")]
        texts = [entry.text for entry in entries if not (entry.word and entry.text.startswith(entry.word))]
        return column > 0 and bool(texts) and all(NUMBER.match(text) for text in texts)


def sheets(view: TableView) -> list[Sheet]:
    """The table, and its paired comparisons where it has them."""
    reasons = list(dict.fromkeys(cell.reason for cell in view.cells if cell.reason))
    lines = _list if any(cell.published is not None for cell in view.cells) else _grid
    head, rows = lines(view, reasons)
    found = [Sheet(view.title, head, rows, [*(f"({i}) {text}" for i, text in enumerate(reasons, 1)), *view.notes])]
    if view.comparisons is not None:
        head, texts = view.comparisons
        notes = ["± is half of the 95 % interval. p: paired t test over the seeds, not corrected for many lines."]
        found.append(Sheet("Paired comparison", head, [[Entry(text) for text in row] for row in texts], notes))
    return found


def measured_text(cell: TableCell) -> str:
    """`95.4 ± 0.6`, or `91.73 [91.17, 92.25]` for a single run; empty where nothing was measured."""
    if cell.measured is None:
        return ""
    bounds = "" if cell.bounds is None else " [{:.{d}f}, {:.{d}f}]".format(*cell.bounds, d=cell.digits)
    return shown(cell.measured, cell.digits) + bounds


def _signed(value: float, digits: int) -> str:
    """`+0.18`, `-0.06`, and 0.00 for what rounds to it."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def _list(view: TableView, reasons: list[str]) -> tuple[list[str], list[list[Entry]]]:
    """A line for each cell; a column that all cells share heads their values."""
    columns = list(dict.fromkeys(cell.column for cell in view.cells))
    head = ["row", "column", "measured", "n", "published", "difference", "verdict"]
    rows, before = [], None
    for cell in view.cells:
        row = "" if cell.row == before else cell.row
        before = cell.row
        n = str(cell.measured.n) if cell.measured else ""
        difference = "" if cell.difference is None else _signed(cell.difference, cell.digits)
        texts = [row, cell.column, measured_text(cell), n, cell.published or "-", difference]
        rows.append([*map(Entry, texts), Entry(_marked(cell, reasons), cell.word)])
    left_out = {3} if not view.seeds else set()  # computed values have no n
    if len(columns) == 1:
        head[2], left_out = columns[0], left_out | {1}
    kept = [i for i in range(len(head)) if i not in left_out]
    return [head[i] for i in kept], [[line[i] for i in kept] for line in rows]


def _grid(view: TableView, reasons: list[str]) -> tuple[list[str], list[list[Entry]]]:
    columns = list(dict.fromkeys(cell.column for cell in view.cells))
    cells = {(cell.row, cell.column): cell for cell in view.cells}
    rows = []
    for name in dict.fromkeys(cell.row for cell in view.cells):
        line = [cells.get((name, column)) for column in columns]
        rows.append([Entry(name), *(Entry("") if cell is None else _entry(cell, view, reasons) for cell in line)])
    return ["", *columns], rows


def _entry(cell: TableCell, view: TableView, reasons: list[str]) -> Entry:
    n = f"(n = {cell.measured.n})" if cell.measured and view.seeds and cell.measured.n != view.seeds else ""
    word = "" if cell.word == UNPUBLISHED else _marked(cell, reasons)
    return Entry(" ".join(filter(None, (measured_text(cell), n, word))), cell.word)


def _marked(cell: TableCell, reasons: list[str]) -> str:
    """The word of a cell with the number of its reason."""
    return f"{cell.word} ({reasons.index(cell.reason) + 1})" if cell.reason else cell.word
