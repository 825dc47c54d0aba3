"""One cell of a table: what was measured, what is published, and a word that says how they agree.

reproduced         the measured value agrees with the published one, within what the table says
outside            it does not
not run            there is no record of one of its runs
different setting  published for a setting that is not ours, so that the two are not to agree; the reason is given
diverged, failed   one of its runs did
-                  nothing is published: there is nothing to agree with
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from qresearch.reports.published import TIERS, Published
from qresearch.reports.statistics import Interval

REPRODUCED, OUTSIDE, NOT_RUN, DIFFERENT = "reproduced", "outside", "not run", "different setting"
DIVERGED, FAILED, UNPUBLISHED = "diverged", "failed", "-"
WORDS = (REPRODUCED, OUTSIDE, DIFFERENT, UNPUBLISHED, NOT_RUN, DIVERGED, FAILED)


class TableError(ValueError):
    """A table that cannot be shown; the message says which, why, and the way out."""


class TableCell(NamedTuple):
    """A cell as it is shown; `digits` are the decimals of its measured value."""

    row: str
    column: str
    measured: Interval | None
    published: str | None
    difference: float | None  # measured - published
    word: str
    reason: str = ""
    digits: int = 2
    bounds: tuple[float, float] | None = None  # of a single run's accuracy, over other test images


class TableView(NamedTuple):
    """A table with its numbers: what every format shows."""

    title: str
    cells: list[TableCell]
    notes: list[str]  # whole sentences, below the table
    seeds: int = 0  # that a measured value is over; 0 = computed, without a spread
    comparisons: tuple[list[str], list[list[str]]] | None = None  # head and lines


def counted(cells: Iterable[TableCell]) -> str:
    """`12 cells: 10 reproduced, 2 not run`, or `12 cells not run`."""
    found = Counter("measured" if cell.word == UNPUBLISHED else cell.word for cell in cells)
    kinds = [f"{found[word]} {word}" for word in ("measured", *WORDS) if found[word]]
    total = f"{found.total()} cell{'s' * (found.total() != 1)}"
    return f"{total}: {', '.join(kinds)}" if len(kinds) != 1 else f"{total} {next(iter(found))}"


def citation(entry: Published) -> str:
    """Whose numbers these are, and where they were read."""
    arxiv = f"arXiv:{entry.arxiv}" if re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", entry.arxiv) else entry.arxiv
    parts = [entry.authors, f'"{entry.paper}"', str(entry.year), arxiv, entry.table]
    return f"published: {', '.join(filter(None, parts))} ({TIERS[entry.tier]})."
