"""What a table measures: a metric of the records, or the difference of two, written `top1 - top1_float`."""

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")
MINUS = " - "


def terms(metric: str, values: Mapping[str, Value]) -> tuple[Value, Value | None]:
    """The values that a metric names: one, or what is subtracted too.

    Raises ValueError for a name that is not among them.
    """
    if metric in values:
        return values[metric], None
    first, minus, second = metric.partition(MINUS)
    for name in (first, second) if minus else (first,):
        if name not in values:
            raise ValueError(f"there is no {name!r}; there are {', '.join(sorted(values))}.")
    return values[first], values[second] if minus else None
