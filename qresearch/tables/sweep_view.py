"""What the records at hand say of a table of runs.

A cell is reproduced where its mean lies within `tolerance` of the published value. Its interval does not enter: few
seeds make it wide, and a wide one would reproduce anything; it is shown, so that both can be judged. A cell has a
verdict only when all its seeds have finished.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qresearch.reports.comparison import compare, comparison_rows
from qresearch.reports.published import published
from qresearch.reports.statistics import accuracy_interval, mean_interval
from qresearch.tables.cell import (
    DIFFERENT,
    DIVERGED,
    FAILED,
    NOT_RUN,
    OUTSIDE,
    REPRODUCED,
    UNPUBLISHED,
    TableCell,
    TableError,
    TableView,
    citation,
    counted,
)
from qresearch.tables.metric import ACCURACIES, is_unmeasured, terms, unit
from qresearch.tables.sweep_table import Budget, Planned, SweepTable

ROUNDING = 1e-9  # of binary floating point: 91.73 - 91.53 is within 0.2

Record = Mapping[str, Any]
Runs = list[tuple[int, Record | None]]  # by seed; None: not run


def sweep_view(table: SweepTable, budget: Budget, runs: Sequence[tuple[Planned, Record | None]]) -> TableView:
    """The table of what a budget planned, each run with its record where there is one.

    Raises TableError for a metric that a record lacks, and where what is published for a cell does not exist.
    """
    places: dict[tuple[str, str], Runs] = {}
    for planned, record in runs:
        places.setdefault((planned.row, planned.column), []).append((planned.seed, record))
    cells = [_cell(table, row, column, found) for (row, column), found in places.items()]
    compared = _compared(table, [record for _, record in runs if record and record["status"] != FAILED])
    return TableView(table.title, cells, _notes(table, budget, cells, runs), max(map(len, places.values())), compared)


def progress(cells: Sequence[TableCell], runs: Sequence[tuple[Planned, Record | None]]) -> str:
    """How far a table is: `16 cells not run (16 of 48 runs are there)`."""
    there = {tuple(planned.overrides): record is not None for planned, record in runs}  # cells may share a run
    done, whole = sum(there.values()), len(there)
    return counted(cells) + (f" ({done} of {whole} runs are there)" if done < whole else "")


def _cell(table: SweepTable, row: str, column: str, runs: Runs) -> TableCell:
    metric, digits, number = table.metric_of(column), table.decimals_of(column), table.published_of(row, column)
    ended = {seed: record["metrics"] for seed, record in runs if record and record["status"] == "finished"}
    finished = [metrics for metrics in ended.values() if not is_unmeasured(metric, metrics)]
    measured = mean_interval([_value(metric, metrics) for metrics in finished]) if finished else None
    difference = measured.mean - float(number.value) if measured and number else None
    word, reason = _state(runs)
    if not word and len(finished) < len(ended):
        unmeasured = [str(seed) for seed, metrics in ended.items() if is_unmeasured(metric, metrics)]
        word, reason = NOT_RUN, f"not measured: seed {', '.join(unmeasured)}; `qresearch deploy RUNS` does that"
    if not word and difference is not None:
        word, reason = DIFFERENT, table.reason_of(row, column)
        if not reason:
            word = REPRODUCED if abs(difference) <= (table.tolerance or 0) + ROUNDING else OUTSIDE
    bounds = None
    if len(finished) == 1 and metric in ACCURACIES and "test_images" in finished[0]:
        bounds = accuracy_interval(finished[0][metric], finished[0]["test_images"])
    text = None if number is None else str(number)
    return TableCell(row, column, measured, text, difference, word or UNPUBLISHED, reason, digits, bounds)


def _state(runs: Runs) -> tuple[str, str]:
    """The word of a cell that has not finished, and the reason; both empty for one that has."""
    for word in (FAILED, DIVERGED):
        ended = [f"seed {seed}: {_brief(record)}" for seed, record in runs if record and record["status"] == word]
        if ended:
            return word, "; ".join(ended)
    missing = [str(seed) for seed, record in runs if record is None]
    if not missing:
        return "", ""
    return NOT_RUN, "" if len(missing) == len(runs) else f"not run yet: seed {', '.join(missing)}"


def _value(metric: str, metrics: Mapping[str, float | int]) -> float:
    try:
        first, second = terms(metric, metrics)
    except ValueError as error:
        raise TableError(f"metric: {error}") from error
    return float(first if second is None else first - second)


def _brief(record: Record) -> str:
    """The message of a record in a line: of a traceback, the last."""
    lines = (record["message"] or "").strip().splitlines() or ["no message"]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _compared(table: SweepTable, records: list[Record]) -> tuple[list[str], list[list[str]]] | None:
    """The lines of the paired comparisons that the table asks for."""
    if not (table.compare and records):
        return None
    digits = max(map(table.decimals_of, table.columns))
    words = {"unit": unit(table.metric), "higher_is_better": table.higher_is_better, "digits": digits}
    found = compare(records, table.compare, metric=table.metric, **words)
    return comparison_rows(found, digits=digits) if found else None


def _notes(
    table: SweepTable, budget: Budget, cells: list[TableCell], runs: Sequence[tuple[Planned, Record | None]]
) -> list[str]:
    notes = []
    most = max((cell.measured.n for cell in cells if cell.measured), default=0)
    if most > 1:
        notes.append(f"mean ± half of the 95 % interval over n = {most} seeds (Student's t).")
    if any(cell.bounds for cell in cells):
        notes.append("[low, high]: 95 % interval of a single run over other test images (Wilson).")
    if table.published is not None:
        notes.append(f"reproduced: the mean is within {table.tolerance:g} of the published value.")
        notes.append(citation(published(table.published)))
    return [*notes, *filter(None, [table.note]), f"{progress(cells, runs)}. All of it takes {budget.cost()}."]
