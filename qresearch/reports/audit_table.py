"""The audit of a run in words and columns."""

from collections import Counter
from typing import Any

TITLE = "audit: what each layer really is"
COLUMNS = ("layer", "tensor", "grid", "granularity", "scale", "rounding", "quantizer", "observer", "estimator")


def audit_table(rows: list[dict[str, Any]], float_tensors: dict[str, int]) -> str:
    """One line for each weight and input, float ones saying so, and a line about all else that stays float."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([TITLE, *(f" {line}".rstrip() for line in lines), _float_line(float_tensors)])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["bits"] is None:
        return (row["layer"], row["tensor"], "float", *[""] * (len(COLUMNS) - 3))
    return tuple(str(row[column]) for column in COLUMNS)


def _float_line(tensors: dict[str, int]) -> str:
    """How many numbers stay float, by the last word of their path: biases, scales, ..."""
    kinds: Counter[str] = Counter()
    for path, size in tensors.items():
        kinds[path.rsplit(".", 1)[-1]] += size
    named = ", ".join(f"{kind} {size:,}" for kind, size in kinds.items())
    return f"stays float: {sum(tensors.values()):,} numbers in {len(tensors)} tensors ({named})"
