"""What a sweep says: a line for each cell or a bar while they run, the tables at the end, and the totals.

It follows the journal of the sweep's folder, so it speaks for every engine alike: for cells in this process, in other
processes, and on other machines.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from qresearch.compose import axes
from qresearch.reports.console import console, progress_bar
from qresearch.reports.sweep_tables import tables, totals_line
from qresearch.store.journal import Follower
from qresearch.store.record import code, environment, read_record, read_records

ENDS = ("finished", "diverged", "failed")
PERIOD_S = 0.2


class SweepDisplay:
    """Follows a sweep of `total` cells; `active` is the one that runs now, for whoever has to end it early."""

    active: "SweepDisplay | None" = None
    totals = ""  # the last line of the last sweep
    found: ClassVar[list[dict[str, Any]]] = []  # the records of the last sweep

    def __init__(self, folder: Path, total: int, varied: Collection[str] = (), *, with_tables: bool = True):
        self.folder, self.total, self.varied, self.with_tables = folder, total, varied, with_tables
        self.counts: Counter[str] = Counter()
        self.ended: dict[str, str] = {}  # cell: how
        self.running: set[str] = set()
        self.codes: dict[str, str] = {}  # the code that each result comes from
        self.started, self.stop = time.monotonic(), threading.Event()

    def start(self) -> None:
        SweepDisplay.active = self
        self.follower = Follower(self.folder)
        self.display = progress_bar()
        self.bar = self.display.__enter__()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def close(self) -> list[dict[str, Any]]:
        """Print the table of the cells that have ended, and the totals; returns their records."""
        self.leave()
        records = self._records()
        SweepDisplay.found = records
        for table in tables(records) if self.with_tables else ():
            console.print(table)
        self._tell_of_other_code()
        kept = {cell for cell, how in self.ended.items() if how == "kept"}
        SweepDisplay.totals = totals_line(records, time.monotonic() - self.started, kept=kept)
        if self.with_tables:  # or they are said by whoever shows the tables
            print(f"results: {self.folder}\n{SweepDisplay.totals}", flush=True)
        return records

    def leave(self) -> None:
        """Give the terminal back without a word, where something else has to be said."""
        SweepDisplay.active = None
        self.stop.set()
        self.thread.join()
        self.display.__exit__(None, None, None)

    def _tell_of_other_code(self) -> None:
        """A kept result is as good as the code it comes from."""
        kept = Counter(self.codes[cell] for cell, how in self.ended.items() if how == "kept")
        now = code(environment())
        if kept.keys() - {now}:
            told = ", ".join(f"{count} by the code {other}" for other, count in kept.items())
            text = f"kept: {told}; this is {now}, and sweep.force=true computes them again"
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _records(self) -> list[dict[str, Any]]:
        """Those of the cells that were heard of, in the order in which they ended; without a journal, all there are."""
        paths = [self.folder / name / "result.json" for name in self.ended]
        records = [read_record(path) | {"path": str(path)} for path in paths if path.is_file()]
        return records or (read_records(self.folder) if self.folder.is_dir() else [])

    def _follow(self) -> None:
        stopped = False
        while not stopped:
            stopped = self.stop.wait(PERIOD_S)  # what came last is read after that
            for event in self.follower.read():
                self._hear(event)
            self.bar(self._words(), len(self.ended), self.total)

    def _hear(self, event: dict[str, Any]) -> None:
        name, cell = event["event"], event["cell"]
        if name == "started":
            self.running.add(cell)
            return
        self.running.discard(cell)
        if cell not in self.ended:
            self.ended[cell] = name
            self.codes[cell] = event.get("code", "")
            self.counts[name] += 1
            if name in ENDS and not console.is_terminal:
                print(self._line(event), flush=True)
        if event.get("message") and name in ENDS:
            word = "error" if name == "failed" else name
            console.print(f"{word}: {event['message']}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: dict[str, Any]) -> str:
        given = event.get("overrides") or []
        told = [override for override in given if not self.varied or override.partition("=")[0] in self.varied]
        top1 = event.get("top1")
        shown = "no result" if top1 is None else f"top-1 {top1:.2f} %"
        return f"cell {len(self.ended)}/{self.total}  {' '.join(told)}  {shown}{self._left()}"

    def _left(self) -> str:
        """How long the rest may take, by the pace so far."""
        done = len(self.ended) - self.counts["kept"]
        rest = self.total - len(self.ended)
        seconds = (time.monotonic() - self.started) / max(done, 1) * rest
        if rest <= 0 or seconds < 5:
            return ""
        return f"  ({seconds:.0f} s left)" if seconds < 100 else f"  ({seconds / 60:.0f} min left)"

    def _words(self) -> str:
        counts = {"running": len(self.running), "kept": self.counts["kept"], "failed": self.counts["failed"]}
        named = [f"{count} {word}" for word, count in counts.items() if count]
        return f"cells ({', '.join(named)})" if named else "cells"


class SweepSummary(Callback):
    """The display of a sweep that Hydra launches; the tables at the end may be left to somebody else."""

    def __init__(self, tables: bool = True):
        self.tables = tables

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        spans = axes(list(config.hydra.overrides.task), config.hydra.sweeper.get("params") or {})
        combinations = math.prod(len(values) for values in spans.values())
        total = config.hydra.sweeper.get("n_trials") or combinations  # a search takes as many as it was told
        varied = [key for key, values in spans.items() if len(values) > 1]
        SweepDisplay(Path(config.hydra.sweep.dir), total, varied, with_tables=self.tables).start()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if SweepDisplay.active is not None:
            records = SweepDisplay.active.close()
            if any(record["status"] == "failed" for record in records):
                raise SystemExit(1)
