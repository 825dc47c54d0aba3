"""A table as one HTML page that asks for nothing outside: light and dark, wide tables scroll, verdicts in words."""

import html

from qresearch.tables.cell import (
    DIFFERENT,
    DIVERGED,
    FAILED,
    NOT_RUN,
    OUTSIDE,
    REPRODUCED,
    TableView,
)
from qresearch.tables.layout import Entry, Sheet, sheets

CLASSES = {
    REPRODUCED: "good",
    OUTSIDE: "bad",
    DIFFERENT: "other",
    NOT_RUN: "open",
    DIVERGED: "bad",
    FAILED: "bad",
}
STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #5c5c5c; --page: #ffffff; --line: #d0d0d0;
  --good: #00664b; --bad: #9c3d00; --other: #004f7a; }
@media (prefers-color-scheme: dark) { :root { --text: #ececec; --soft: #a8a8a8; --page: #16181b; --line: #3a3d42;
  --good: #4fd0a5; --bad: #ff9d5c; --other: #7cc4f5; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 1.5rem; }
h1 { font-size: 1.25rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } tbody th { font-weight: 400; }
th.number, td.number { text-align: right; white-space: nowrap; }
thead th { border-top: 2px solid var(--text); border-bottom: 1px solid var(--text); }
tbody tr { border-bottom: 1px solid var(--line); } tbody tr:last-child { border-bottom: 2px solid var(--text); }
.good { color: var(--good); } .bad { color: var(--bad); } .other { color: var(--other); } .open { color: var(--soft); }
.notes { color: var(--soft); font-size: .85rem; max-width: 60rem; margin-top: .6rem; } .notes p { margin: .2rem 0; }
"""


def as_html(view: TableView) -> str:
    """The page."""
    first, *others = sheets(view)
    parts = [_section("h1", first), *(_section("h2", sheet) for sheet in others)]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(view.title)}</title><style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _section(level: str, sheet: Sheet) -> str:
    numbers = [sheet.is_number(index) for index in range(len(sheet.head))]
    head = "".join(
        _tag("th", name, "number" * number, 'scope="col"') for name, number in zip(sheet.head, numbers, strict=True)
    )
    rows = "\n".join(f"<tr>{_row(row, numbers)}</tr>" for row in sheet.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in sheet.notes)
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    # A region that scrolls must be reachable by keyboard.
    wide = f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(sheet.title)}">{table}</div>'
    return f'<{level}>{html.escape(sheet.title)}</{level}>\n{wide}\n<div class="notes">{notes}</div>'


def _row(row: list[Entry], numbers: list[bool]) -> str:
    cells = [_tag("th", row[0].text, "", 'scope="row"')]
    for entry, number in zip(row[1:], numbers[1:], strict=True):
        cells.append(_tag("td", entry.text, f"{'number' * number} {CLASSES.get(entry.word, '')}".strip()))
    return "".join(cells)


def _tag(name: str, text: str, style: str, attributes: str = "") -> str:
    given = " ".join(filter(None, (name, attributes, f'class="{style}"' if style else "")))
    return f"<{given}>{html.escape(text)}</{name}>"
