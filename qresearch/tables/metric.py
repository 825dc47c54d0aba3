"""What a table measures: a metric of the records, or the difference of two, written `top1 - top1_float`."""

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")
MINUS = " - "
RUNTIMES = ("onnx", "litert", "jax")  # in which `qresearch deploy` measures
ACCURACIES = ("top1", "top1_float", "top1_integer", *(f"{runtime}_top1" for runtime in RUNTIMES))  # % of test images
DEPLOYED = re.compile(rf"({'|'.join(RUNTIMES)})_(latency_ms|latency_ratio|top1|agreement|bytes)")
UNITS = {"bytes": "bytes", "_bytes_float": "bytes", "_ms": "ms", "_uj_estimate": "uJ (estimate)", "_db": "dB"}


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


def unit(metric: str) -> str:
    """In what a difference of a metric is told; where it has no unit of its own, the metric's name."""
    if metric in ACCURACIES:
        return "points"
    return next((word for ending, word in UNITS.items() if metric.endswith(ending)), metric)


def is_unmeasured(metric: str, values: Mapping[str, object]) -> bool:
    """Whether a metric lacks nothing but what `qresearch deploy` adds to a record."""
    names = [metric] if metric in values else metric.split(MINUS, 1)
    missing = [name for name in names if name not in values]
    return bool(missing) and all(DEPLOYED.fullmatch(name) for name in missing)
