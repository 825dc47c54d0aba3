"""Cells in their folders: what is computed, what is kept from earlier, and the files that come of it.

A cell's folder receives `audit.txt`, `curves.json` and, last of all, `result.json`. In a sweep the folder is named by
the hash of the cell's configuration, so a cell that has a result is known again.
"""

import dataclasses
import datetime
import functools
import math
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from qresearch.cells.cell import Cell, prepare
from qresearch.cells.compute import Outcome, run_cells
from qresearch.config.check import check, config_hash
from qresearch.config.nodes import build, plain
from qresearch.config.schema import ConfigError, RunConfig
from qresearch.core.program import count_programs
from qresearch.data.error import DataError
from qresearch.reports.audit_table import audit_table
from qresearch.reports.console import console, progress_bar
from qresearch.store.claims import release, take
from qresearch.store.full_disk import naming_a_full_disk
from qresearch.store.journal import note
from qresearch.store.record import NAME, SCHEMA, RecordError, code, environment, read_record, write_bytes, write_json
from qresearch.store.shared import Shared

# Bad input; anything else is our mistake and shows its traceback.
EXPECTED = (ValueError, ConfigError, DataError)
RESULTS = ("finished", "diverged")  # a failed cell is tried again


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell, or why there is none, and where its record belongs."""

    given: Any  # the configuration as it was composed
    overrides: tuple[str, ...]
    name: str  # the hash of the configuration
    folder: Path
    cfg: RunConfig | None = None
    cell: Cell | None = None
    problem: Exception | None = None

    @property
    def group(self) -> str:
        return self._group if self.cell else ""

    @functools.cached_property
    def _group(self) -> str:
        assert self.cell is not None
        return self.cell.group


def sweep_job(given: Any, overrides: Sequence[str], sweep: Path) -> Job:
    """The job of a cell of the sweep in this folder; never raises."""
    overrides, name = tuple(overrides), ""
    try:
        cfg = check(given)
        name = config_hash(cfg)
        return Job(given, overrides, name, sweep / name, cfg, prepare(cfg))
    except Exception as error:
        name = name or config_hash(_unresolved(given))
        return Job(given, overrides, name, sweep / name, problem=error)


def settle(jobs: Sequence[Job], *, force: bool = False, wait: bool = False) -> list[dict[str, Any] | None]:
    """The records of cells of one group in a sweep, computed side by side where several are missing.

    Those that have a result keep it, unless `force`d. A cell that another process works at gives None; with `wait`,
    what the other process has found.
    """
    sweep = jobs[0].folder.parent
    mine = [job for job in jobs if take(sweep, job.name, wait=wait)]
    try:
        kept = {job.name: None if force else finished(job.folder) for job in mine}
        for name, record in kept.items():
            if record is not None:
                note(sweep, "kept", name, **_headline(record), code=code(record["environment"]))
        missing = list({job.name: job for job in mine if kept[job.name] is None}.values())
        for job in missing:
            for part in job.folder.glob("*.part"):  # of a process that was killed while it wrote
                part.unlink()
            note(sweep, "started", job.name)
        computed = _settled(missing, sweep=sweep.name) if missing else []
        found = {job.name: each.record for job, each in zip(missing, computed, strict=True)}
        for name, record in found.items():
            note(sweep, record["status"], name, **_headline(record), code=code(record["environment"]))
    finally:
        for job in mine:
            release(sweep, job.name)
    return [(kept | found).get(job.name) for job in jobs]


def finished(folder: Path) -> dict[str, Any] | None:
    """The result that lies in a cell's folder, or None. A damaged one is set aside, under another name."""
    try:
        record = read_record(folder / NAME)
    except FileNotFoundError:
        return None
    except RecordError as error:
        aside = next(path for n in range(10**6) if not (path := folder / f"damaged-{n}.{NAME}").exists())
        (folder / NAME).rename(aside)
        console.print(f"{error.what}: kept as {aside.name}, and the cell computed again.", markup=False)
        return None
    return record if record["status"] in RESULTS else None


def run(given: Any, folder: Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compute one cell by itself in `folder` and return its record, which is then on disk.

    Raises ConfigError, DataError or CheckpointError for bad input, before anything is computed where it can
    be known; the failure is on disk too.
    """
    job = Job(given, tuple(overrides), "", folder)
    try:
        cfg = check(given)
        job = dataclasses.replace(job, cfg=cfg, cell=prepare(cfg), name=config_hash(cfg))
    except Exception as error:
        job = dataclasses.replace(job, problem=error)
    ((record, problem),) = _settled([job], sweep=None)
    if problem is not None:
        raise problem
    return record


class _Found(NamedTuple):
    record: dict[str, Any]
    problem: Exception | None


def _settled(jobs: Sequence[Job], *, sweep: str | None) -> list[_Found]:
    """Compute the cells, write what was found or why nothing was, and return it."""
    ready = [job for job in jobs if job.cell is not None]
    found = dict(zip((job.name for job in ready), _computed(ready, sweep), strict=True)) if ready else {}
    for job in jobs:
        if job.problem is not None:
            found[job.name] = _Found(_failure(job, job.problem), job.problem)
            write_json(job.folder / NAME, found[job.name].record)
    return [found[job.name] for job in jobs]


def _computed(jobs: Sequence[Job], sweep: str | None) -> list[_Found]:
    trackers = [_start_tracker(job, sweep) for job in jobs]
    outcomes, programs = _run([job.cell for job in jobs if job.cell], trackers)
    found = []
    for job, outcome, tracker in zip(jobs, outcomes, trackers, strict=True):
        if outcome.error is not None:
            record = _failure(job, outcome.error)
        else:
            record = _record(job, outcome, programs)
            programs = {}  # they are counted once, in the first of the cells
            _write_files(job, outcome)
        write_json(job.folder / NAME, record)
        tracker.finish(record)
        found.append(_Found(record, outcome.error))
    return found


def _start_tracker(job: Job, sweep: str | None) -> Any:
    assert job.cfg is not None
    job.folder.mkdir(parents=True, exist_ok=True)
    tracker = build(job.cfg.tracker)
    tracker.start(folder=job.folder, name=job.name, group=sweep, config=plain(job.cfg))
    return tracker


def _run(cells: Sequence[Cell], trackers: Sequence[Any]) -> tuple[list[Outcome], dict[str, int]]:
    """The cells' outcomes and the programs compiled for them, with a bar for the first and curves for all trackers."""
    with count_programs() as programs, progress_bar() as bar:

        def listen(number: int, stage: str, step: int, total: int, point: dict[str, float | int]) -> None:
            if number == 0:
                bar(f"{stage}: loss {point['loss']:.3f}", step, total)
            numbers = {f"{stage}/{key}": value for key, value in point.items() if key != "step"}
            trackers[number].log(step, numbers)

        outcomes = run_cells(cells, _shared(str(Path(cells[0].cfg.runs_dir).absolute())), listen)
    return outcomes, dict(programs)


@functools.cache
def _shared(folder: str) -> Shared:
    """The shared stages under a folder of runs: one for the life of the process."""
    return Shared(Path(folder))


def _record(job: Job, outcome: Outcome, programs: dict[str, int]) -> dict[str, Any]:
    assert job.cfg is not None
    metrics = {name: value for name, value in outcome.metrics.items() if math.isfinite(value)}
    return {
        "schema": SCHEMA,
        "status": outcome.status,
        "message": outcome.message,
        "config": plain(job.cfg),
        "config_hash": job.name,
        "overrides": list(job.overrides),
        "group": job.group,
        "metrics": metrics | {"programs": sum(programs.values()), "stacked": outcome.together},
        "not_finite": sorted(outcome.metrics.keys() - metrics.keys()),
        "programs": dict(sorted(programs.items())),
        "layers": outcome.layers,
        "costs": {layer: cost._asdict() for layer, cost in outcome.costs.items()},
        "audit": outcome.audit,
        "float_tensors": outcome.float_tensors,
        "parity": outcome.parity,
        "environment": environment(),
        "finished_at": _now(),
    }


def _failure(job: Job, problem: Exception) -> dict[str, Any]:
    """The record of a cell that raised; its configuration may be what is wrong, so it is kept as it was given."""
    message = str(problem) if isinstance(problem, EXPECTED) else "".join(traceback.format_exception(problem))
    return {
        "schema": SCHEMA,
        "status": "failed",
        "message": message,
        "config": _unresolved(job.given),
        "overrides": list(job.overrides),
        "metrics": {},
        "environment": environment(),
        "finished_at": _now(),
    }


def _write_files(job: Job, outcome: Outcome) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    audit = job.folder / "audit.txt"
    with naming_a_full_disk(audit):
        audit.write_text(audit_table(outcome.audit, outcome.float_tensors) + "\n")
    write_json(job.folder / "curves.json", outcome.curves)
    if outcome.file is not None:
        write_bytes(job.folder / "model.safetensors", outcome.file)


def _unresolved(given: Any) -> Any:
    """The configuration without resolving it, which may be what failed."""
    return OmegaConf.to_container(given, enum_to_str=True) if OmegaConf.is_config(given) else plain(given)


def _headline(record: dict[str, Any]) -> dict[str, Any]:
    details = {"overrides": record["overrides"], "message": record["message"]}
    return details | {"top1": record["metrics"].get("top1"), "seconds": record["metrics"].get("seconds")}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
