"""The published values that tables are compared with: `published.yaml`, an entry for each table of a paper.

An entry says where its values were read, and how near to the source that was (`tier`). Values are strings, which keep
the digits as printed: the last of them decides whether a computed value agrees.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

FILE = Path(__file__).with_suffix(".yaml")
TIERS = {
    "primary": "read in the paper or in the authors' code",
    "secondary": "read in a copy",
    "user-report": "reported by a user",
    "computed": "digits computed by others, not printed by the authors",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """One entry; `values` has rows of columns of printed strings."""

    id: str
    paper: str
    authors: str
    year: int
    arxiv: str  # "" where there is none
    table: str
    metric: str
    unit: str  # "" for plain numbers
    source: str
    tier: str  # one of TIERS
    notes: str
    values: dict[str, dict[str, str]]


def published(id: str) -> Published:
    """The entry of that id.

    Raises ValueError for an id that is not there.
    """
    entries = _entries()
    if id not in entries:
        raise ValueError(f"published={id}: {FILE.name} has no such entry; there are {', '.join(sorted(entries))}.")
    return entries[id]


def problems(content: Any) -> list[str]:
    """What is wrong with the content of the file, a line for each fault."""
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        return ["the file is not a list of entries."]
    ids = [entry.get("id") for entry in content]
    twice = [f"id {id} is there more than once." for id in dict.fromkeys(ids) if ids.count(id) > 1]
    return twice + [f"{entry.get('id')}: {fault}" for entry in content for fault in _faults(entry)]


@functools.cache
def _entries() -> dict[str, Published]:
    content: Any = OmegaConf.to_container(OmegaConf.load(FILE))
    if faults := problems(content):
        raise ValueError(f"{FILE.name}: {' '.join(faults)}")
    return {entry["id"]: Published(**entry) for entry in content}


def _faults(entry: dict[str, Any]) -> list[str]:
    fields = {field.name: field.type for field in dataclasses.fields(Published)}
    missing, unknown = fields.keys() - entry.keys(), entry.keys() - fields.keys()
    if missing or unknown:
        return [f"keys missing: {sorted(missing)}, unknown: {sorted(map(str, unknown))}."]
    faults = [
        f"{key}={entry[key]!r} is not a string." for key in fields if fields[key] is str and not _is_text(entry[key])
    ]
    if type(entry["year"]) is not int:
        faults.append(f"year={entry['year']!r} is not a year.")
    if entry["tier"] not in TIERS:
        faults.append(f"tier={entry['tier']!r} is none of {', '.join(TIERS)}.")
    return faults + _value_faults(entry["values"])


def _value_faults(values: Any) -> list[str]:
    if not isinstance(values, dict) or not values:
        return ["values has no rows."]
    faults = [
        f"row {row!r} has no columns." for row, cells in values.items() if not isinstance(cells, dict) or not cells
    ]
    rows = {row: cells for row, cells in values.items() if isinstance(cells, dict)}
    names = [name for row, cells in rows.items() for name in (row, *cells)]
    faults += [f"{name!r}: names of rows and columns are strings." for name in names if not _is_text(name)]
    return faults + [
        f"{row}, {column}: {printed!r} is not a number in quotes."
        for row, cells in rows.items()
        for column, printed in cells.items()
        if not _is_number(printed)
    ]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(printed: Any) -> bool:
    try:
        return _is_text(printed) and math.isfinite(float(printed))
    except ValueError:
        return False
