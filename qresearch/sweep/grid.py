"""A sweep in this process: cells grouped by the programs that they run, in turn or side by side.

Every cell of a group after the first finds its programs compiled, whatever its bits, seed, rate or percentile. On a CPU
cells run in turn. On an accelerator the first two cells of a group run alone, the next ones side by side, and the
faster way goes on; all of them are results. `sweep.stack=on` and `off` decide it themselves.
"""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from qresearch.config.schema import Stack
from qresearch.execute import Job, settle, sweep_job
from qresearch.store.record import NAME

Record = dict[str, Any]


def run_grid(cells: Iterable[tuple[Any, Sequence[str]]], folder: Path) -> list[Record]:
    """The record of every cell, given as its composed configuration and its overrides, in their order.

    Cells that have a result in the folder keep it; one that another process works at is waited for at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not gc.get_freeze_count():  # what is imported stays anyway, and a collection that walks through it takes 100 ms
        gc.freeze()
    jobs = [sweep_job(cfg, overrides, folder) for cfg, overrides in cells]
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    records: dict[str, Record] = {}
    for group, members in groups.items():
        records |= _run_group(members, alone=not group)
    for job in jobs:
        if job.name not in records:  # another process had it
            (record,) = settle([job], wait=True)
            assert record is not None
            records[job.name] = record
    return [records[job.name] for job in jobs]


def _run_group(jobs: list[Job], *, alone: bool) -> dict[str, Record]:
    """The records of the cells of one group, but for those that other processes work at."""
    settings = jobs[0].cfg.sweep if jobs[0].cfg and not alone else None
    force = bool(jobs[0].cfg and jobs[0].cfg.sweep.force)
    way = _Way(settings.chunk if settings else 1, _decided(settings.stack) if settings else False)
    records: dict[str, Record] = {}
    rest = list({job.name: job for job in jobs}.values())
    while rest:
        size = way.next()
        bundle, rest = rest[:size], rest[size:]
        new = force or not any((job.folder / NAME).exists() for job in bundle)
        found = way.timed(len(bundle), lambda bundle=bundle: _settle_within_memory(bundle, force), counts=new)
        records |= {job.name: record for job, record in zip(bundle, found, strict=True) if record is not None}
    return records


def _decided(stack: Stack) -> bool | None:
    """Whether cells go side by side; None where it is to be tried."""
    if stack == Stack.auto:
        return False if jax.default_backend() == "cpu" else None
    return stack == Stack.on


class _Way:
    """How many cells of a group to take next, learnt from the first ones where it is not decided."""

    def __init__(self, chunk: int, side_by_side: bool | None):
        self.chunk, self.side_by_side = chunk, side_by_side
        self.seconds: dict[int, list[float]] = {}  # for each cell, by how many went side by side

    def next(self) -> int:
        if self.side_by_side is not None:
            return self.chunk if self.side_by_side else 1
        if len(self.seconds.get(1, ())) < 2:
            return 1
        if len(self.seconds.get(self.chunk, ())) < 2:
            return self.chunk
        alone, together = (self.seconds[size][1] for size in (1, self.chunk))  # the first one compiled
        self.side_by_side = together < alone
        return self.next()

    def timed(self, size: int, work: Callable[[], Any], *, counts: bool) -> Any:
        """What `work` returns; its time counts unless some of it was there before, or is left to another process."""
        started = time.monotonic()
        done = work()
        if counts and all(record is not None for record in done):
            self.seconds.setdefault(size, []).append((time.monotonic() - started) / size)
        return done


def _settle_within_memory(jobs: Sequence[Job], force: bool) -> list[Record | None]:
    """Settle the jobs side by side, or in halves where the device has no room for all."""
    records = settle(jobs, force=force)
    full = [record for record in records if record and "RESOURCE_EXHAUSTED" in str(record["message"])]
    if len(jobs) == 1 or not full:
        return records
    half = len(jobs) // 2
    return [*_settle_within_memory(jobs[:half], force), *_settle_within_memory(jobs[half:], force)]
