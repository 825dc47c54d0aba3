"""The program behind `qresearch run` and `qresearch sweep`: one cell for each configuration that Hydra
composes.

A cell's folder receives `audit.txt`, `curves.json` and, last of all, `result.json`.
"""

import math
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from qresearch.cell import Cell, Outcome, prepare, run_cell
from qresearch.compilation import keep_compiled_programs
from qresearch.config import CONFIG_FOLDER, ConfigError, build, check, config_hash, plain
from qresearch.core.program import count_programs
from qresearch.data.error import DataError
from qresearch.reports.audit_table import audit_table
from qresearch.reports.console import console, progress_bar
from qresearch.reports.sweep_summary import SweepSummary
from qresearch.store.record import SCHEMA, environment, write_json

EXPECTED = (
    ValueError,
    ConfigError,
    DataError,
)  # bad input; anything else is our mistake and shows its traceback


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run one cell; returns its top-1 accuracy, for sweepers that optimize it.

    Bad input ends a single run with exit code 1 and one message. In a sweep the cell is recorded as `failed`
    and the others go on.
    """
    keep_compiled_programs()
    settings = HydraConfig.get()
    folder, sweeping = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    try:
        record = run(cfg, folder, group=Path(settings.sweep.dir).name if sweeping else None)
    except Exception as error:
        expected = isinstance(error, EXPECTED)
        details = str(error) if expected else traceback.format_exc()
        write_json(folder / "result.json", _failure(cfg, details))
        if not sweeping and not expected:
            raise
        console.print(f"error: {details}", style="red", markup=False, highlight=False, soft_wrap=True)
        if not sweeping:
            sys.exit(1)
        return None
    if record["message"]:
        console.print(f"{record['status']}: {record['message']}", markup=False)
    if not sweeping:
        print(f"result: {_shown(folder / 'result.json')}")
    return record["metrics"].get("top1")


def main_or_interrupted() -> None:
    """The program; Ctrl-C keeps and shows what has finished, and exits with 130."""
    try:
        main()
    except KeyboardInterrupt:
        if SweepSummary.active is not None:
            SweepSummary.active.close()
        print("interrupted: finished cells are kept.", file=sys.stderr)
        sys.exit(130)


def run(cfg: DictConfig, folder: Path, *, group: str | None) -> dict[str, Any]:
    """Run one cell in `folder` and return its record, which is then on disk.

    Raises ConfigError, DataError or CheckpointError for bad input, before anything is computed where it can
    be known.
    """
    cfg = check(cfg)
    cell = prepare(cfg)
    tracker = build(cfg.tracker)
    tracker.start(folder=folder, name=config_hash(cfg), group=group, config=plain(cfg))
    with count_programs() as programs, progress_bar() as bar:

        def listen(stage: str, step: int, total: int, point: dict[str, float | int]) -> None:
            bar(f"{stage}: loss {point['loss']:.3f}", step, total)
            numbers = {key: value for key, value in point.items() if key != "step"}
            tracker.log(step, {f"{stage}/{key}": value for key, value in numbers.items()})

        outcome = run_cell(cell, Path(cfg.runs_dir), listen)
    record = _record(cell, outcome, programs)
    folder.mkdir(parents=True, exist_ok=True)
    audit = audit_table(outcome.audit, outcome.float_tensors)
    (folder / "audit.txt").write_text(audit + "\n")
    write_json(folder / "curves.json", outcome.curves)
    write_json(folder / "result.json", record)
    if group is None:
        console.print(audit, markup=False, highlight=False, soft_wrap=True)
        console.print(metrics_line(record["metrics"]), markup=False, highlight=False, soft_wrap=True)
    tracker.finish(record)
    return record


def metrics_line(metrics: dict[str, float | int]) -> str:
    """The headline numbers of a run in a line of words."""
    parts = []
    if "top1" in metrics:
        parts.append(f"top-1 {metrics['top1']:.2f} % (float {metrics['top1_float']:.2f} %)")
    if "size_bytes" in metrics:
        share = metrics["size_bytes"] / metrics["size_bytes_float"]
        parts.append(f"{metrics['size_bytes'] / 1e3:.1f} kB ({share:.3f} of float)")
    return ", ".join([*parts, f"{metrics['programs']} programs compiled", f"{metrics['seconds']:.1f} s"])


def _record(cell: Cell, outcome: Outcome, programs: dict[str, int]) -> dict[str, Any]:
    cfg = cell.cfg
    metrics = {name: value for name, value in outcome.metrics.items() if math.isfinite(value)}
    return {
        "schema": SCHEMA,
        "status": outcome.status,
        "message": outcome.message,
        "config": plain(cfg),
        "config_hash": config_hash(cfg),
        "group": cell.group,
        "metrics": metrics | {"programs": sum(programs.values())},
        "programs": dict(sorted(programs.items())),
        "layers": outcome.layers,
        "costs": {layer: cost._asdict() for layer, cost in outcome.costs.items()},
        "audit": outcome.audit,
        "float_tensors": outcome.float_tensors,
        "environment": environment(),
    }


def _failure(cfg: DictConfig, message: str) -> dict[str, Any]:
    """The record of a cell that raised; its configuration may be what is wrong, so it is kept as it was given."""
    return {
        "schema": SCHEMA,
        "status": "failed",
        "message": message,
        "config": OmegaConf.to_container(cfg, enum_to_str=True),  # unresolved: that may be what failed
        "metrics": {},
        "environment": environment(),
    }


def _shown(path: Path) -> str:
    """The path as a person would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


if __name__ == "__main__":
    main_or_interrupted()
