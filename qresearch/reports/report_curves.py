"""Training curves for the page: thinned, of so many runs as a page holds, and each baseline once."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qresearch.reports.report_data import Record, settings

POINTS = 100  # of a curve
RUNS = 48  # with curves in a page that is one file
DIGITS = 5

Stages = dict[str, dict[str, list[float | None]]]  # stage, quantity, its value at each step


def read_curves(path: Path) -> Stages:
    """The curves beside the record in `path`, thinned; {} where there are none, or none that can be read."""
    try:
        stages = json.loads(path.with_name("curves.json").read_bytes())
        return {stage: thinned(points) for stage, points in stages.items() if points}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}  # the record beside it is whole, and is what counts


def thinned(points: Sequence[dict[str, float | int | None]]) -> dict[str, list[float | None]]:
    """At most `POINTS` of the points, evenly, the first and the last among them, as one list for each quantity."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int))
    names = dict.fromkeys(name for point in points for name in point)
    return {name: [_rounded(points[index].get(name)) for index in chosen] for name in names}


def curves_of_some(folder: Path, records: Sequence[Record], limit: int = RUNS) -> dict[str, Any]:
    """The curves of at most `limit` runs, setting by setting: {"series": [...], "runs": {path: {stage: number}}}.

    Settings in which a run diverged come first, then trained ones, each kind spread evenly over the folder.
    """
    series: dict[str, int] = {}
    runs: dict[str, dict[str, int]] = {}
    for record in _in_turn(settings(records).values()):
        if len(runs) >= limit:
            break
        stages = read_curves(folder / record["path"])
        if stages:
            texts = {stage: json.dumps(curve) for stage, curve in stages.items()}
            runs[record["path"]] = {stage: series.setdefault(text, len(series)) for stage, text in texts.items()}
    return {"series": [json.loads(text) for text in series], "runs": runs}


def _in_turn(found: Iterable[list[Record]]) -> Iterable[Record]:
    """The records of the settings, the most telling first."""
    diverged, trained, others = [], [], []
    for group in found:
        if any(record["status"] == "diverged" for record in group):
            diverged.append(group)
        elif any(record["config"].get("method.name") == "qat" for record in group):
            trained.append(group)
        else:
            others.append(group)
    for groups in (diverged, trained, others):
        for index in sorted(range(len(groups)), key=_spread):
            yield from groups[index]


def _spread(index: int) -> float:
    """Van der Corput's sequence upside down: sorted by it, any first part of the indices covers their range evenly."""
    return int(f"{index:b}"[::-1], 2) / 2 ** len(f"{index:b}")


def _rounded(value: float | int | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
