"""The audit of a run in words and columns."""

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("layer", "tensor", "grid", "granularity", "scale", "rounding", "quantizer", "observer", "estimator")


def audit_table(rows: list[dict[str, Any]], float_tensors: dict[str, int]) -> str:
    """One line for each weight and input, float ones saying so, and a line about all else that stays float."""
    table = Table(title="audit: what each layer really is", box=None, title_justify="left", header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for row in rows:
        if row["bits"] is None:
            table.add_row(row["layer"], row["tensor"], "float")
            continue
        table.add_row(*(str(row[column]) for column in COLUMNS))
    printer = Console(width=160, force_terminal=False)
    with printer.capture() as capture:
        printer.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join([*lines, _float_line(float_tensors)])


def _float_line(tensors: dict[str, int]) -> str:
    """How many numbers stay float, by the last word of their path: biases, scales, ..."""
    kinds: Counter[str] = Counter()
    for path, size in tensors.items():
        kinds[path.rsplit(".", 1)[-1]] += size
    named = ", ".join(f"{kind} {size:,}" for kind, size in kinds.items())
    return f"stays float: {sum(tensors.values()):,} numbers in {len(tensors)} tensors ({named})"
