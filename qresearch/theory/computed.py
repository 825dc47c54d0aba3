"""One cell of a table of exact values."""

from typing import NamedTuple


class Computed(NamedTuple):
    row: str
    column: str
    value: float
