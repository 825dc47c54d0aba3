"""A table as text: for a console, Markdown, LaTeX, HTML and CSV. What comes from files is escaped in each."""

import csv
import io
import re
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from qresearch.tables.cell import (
    DIFFERENT,
    DIVERGED,
    FAILED,
    NOT_RUN,
    OUTSIDE,
    REPRODUCED,
    TableCell,
    TableView,
)
from qresearch.tables.html import as_html
from qresearch.tables.latex import as_latex
from qresearch.tables.layout import sheets

STYLES = {REPRODUCED: "green", OUTSIDE: "red", DIFFERENT: "cyan", NOT_RUN: "dim", DIVERGED: "yellow", FAILED: "red"}
WIDTH = 160  # of a console that is a file
CSV = ("row", "column", "measured", "half_width", "low", "high", "n", "published", "difference", "verdict", "reason")


def console_parts(view: TableView) -> list[RenderableType]:
    """The table for rich, with its notes below it."""
    found: list[RenderableType] = []
    for sheet in sheets(view):
        table = Table(box=None, header_style="bold")
        for index, name in enumerate(sheet.head):
            table.add_column(Text(name), justify="right" if sheet.is_number(index) else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*(Text(entry.text, STYLES.get(entry.word, "")) for entry in row))
        found += [Text(sheet.title, "bold"), table, *(Text(note, "dim") for note in sheet.notes), Text()]
    return found[:-1]


def as_text(view: TableView) -> str:
    """What a console shows, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, color_system=None)
    for part in console_parts(view):
        console.print(part, soft_wrap=isinstance(part, Text))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def as_markdown(view: TableView) -> str:
    """GitHub's tables."""
    blocks = []
    for sheet in sheets(view):
        rule = ["---:" if sheet.is_number(index) else "---" for index in range(len(sheet.head))]
        rows = [[_markdown(entry.text) for entry in row] for row in sheet.rows]
        lines = [f"| {' | '.join(row)} |" for row in (list(map(_markdown, sheet.head)), rule, *rows)]
        blocks += [f"### {_markdown(sheet.title)}", "\n".join(lines), "\\\n".join(map(_markdown, sheet.notes))]
    return "\n\n".join(blocks) + "\n"


def as_csv(view: TableView) -> str:
    """A line for each cell, with all its digits; the comparisons are not in it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV)
    writer.writerows(_csv_row(cell, has_runs=bool(view.seeds)) for cell in view.cells)
    return stream.getvalue()


FORMATS: dict[str, Callable[[TableView], str]] = {
    "console": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "html": as_html,
    "csv": as_csv,
}
SUFFIXES = {".txt": "console", ".md": "markdown", ".tex": "latex", ".html": "html", ".csv": "csv"}


def _markdown(text: str) -> str:
    """The text with what Markdown, and HTML in it, would read as more than text taken literally."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def _csv_row(cell: TableCell, *, has_runs: bool) -> tuple[object, ...]:
    mean, half, n = cell.measured or (None, None, None)
    low, high = cell.bounds or (None, None)
    if mean is not None and half is not None:
        low, high = mean - half, mean + half
    values = (mean, half, low, high, n if has_runs else None, cell.published, cell.difference)
    return (cell.row, cell.column, *("" if value is None else value for value in values), cell.word, cell.reason)
