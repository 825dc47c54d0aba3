"""What a sweep says: a line or a bar while its cells run, a table of them at the end, and the totals.

It follows the journal of the sweep's folder, so it speaks for every engine alike: for cells in this process, in other
processes, and on other machines.
"""

import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.table import Table

from qresearch.compose import axes
from qresearch.config import UNHASHED
from qresearch.reports.comparison import compare, comparison_table
from qresearch.reports.console import console, progress_bar
from qresearch.reports.differing import differing_keys
from qresearch.reports.statistics import accuracy_interval, mean_interval, shown
from qresearch.store.index import flat
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
        print(f"results: {self.folder}")
        kept = {cell for cell, how in self.ended.items() if how == "kept"}
        SweepDisplay.totals = totals_line(records, time.monotonic() - self.started, kept=kept)
        print(SweepDisplay.totals, flush=True)
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
        total = 1
        for values in spans.values():
            total *= len(values)
        varied = [key for key, values in spans.items() if len(values) > 1]
        SweepDisplay(Path(config.hydra.sweep.dir), total, varied, with_tables=self.tables).start()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        if SweepDisplay.active is not None:
            records = SweepDisplay.active.close()
            if any(record["status"] == "failed" for record in records):
                raise SystemExit(1)


def totals_line(records: list[dict[str, Any]], seconds: float, *, kept: Collection[str] = ()) -> str:
    """`sweep: N cells (K kept), G groups, C programs, S s`, with the programs by name behind it."""
    groups = {record["group"] for record in records if "group" in record}
    counts: Counter[str] = Counter()
    for record in records:
        if record.get("config_hash") not in kept:
            counts.update(record.get("programs", {}))
    named = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    earlier = f" ({len(kept)} kept)" if kept else ""
    line = (
        f"sweep: {len(records)} cells{earlier}, {len(groups)} groups, {sum(counts.values())} programs, {seconds:.1f} s"
    )
    return f"{line} ({named})" if named else line


def tables(records: list[dict[str, Any]]) -> list[Table]:
    """What is shown of a sweep: its settings over their seeds and how methods compare, or else its cells."""
    seeds = {record["config"].get("seed") for record in records}
    finished = [record for record in records if record["status"] == "finished"]
    if len(seeds) < 2 or len(finished) < len(records) or not records:
        return [cell_table(records)] if records else []
    found = [settings_table(records)]
    if "method.name" in differing_keys(map(_config, records)):
        found.append(comparison_table(compare(records, "method")))
    return found


def _config(record: dict[str, Any]) -> dict[str, Any]:
    """The keys of a cell, flat, but for those that change no number: a sweep may go on with another tracker."""
    return {key: value for key, value in flat(record["config"]).items() if key.split(".")[0] not in UNHASHED}


def settings_table(records: list[dict[str, Any]]) -> Table:
    """One row for each setting, the mean of its seeds with the 95 % interval."""
    configs = [_config(record) for record in records]
    keys = [key for key in differing_keys(configs) if key != "seed"]
    settings: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record, config in zip(records, configs, strict=True):
        settings.setdefault(tuple(str(config.get(key)) for key in keys), []).append(record["metrics"])
    table = Table(box=None, header_style="bold")
    for key in keys:
        table.add_column(key.removesuffix(".name"), overflow="fold")
    for headline in ("seeds", "top-1 % ± 95 %", "float %", "SQNR w dB", "kB", "s"):
        table.add_column(headline, no_wrap=True, justify="right")
    for setting, metrics in settings.items():
        columns = [_mean(metrics, name, *form) for name, *form in COLUMNS]
        table.add_row(*setting, str(len(metrics)), *columns)
    return table


COLUMNS: tuple[tuple[Any, ...], ...] = (
    ("top1", 2),
    ("top1_float", 2),
    ("sqnr_weight_db", 1),
    ("size_bytes", 1, 1e-3),
    ("seconds", 1),
)


def _mean(metrics: list[dict[str, Any]], name: str, digits: int, factor: float = 1.0) -> str:
    values = [factor * each[name] for each in metrics if name in each]
    if not values:
        return "-"
    interval = mean_interval(values)
    return shown(interval if name == "top1" else interval._replace(half=None), digits)


def cell_table(records: list[dict[str, Any]]) -> Table:
    """One row for each cell: the keys in which the cells differ, and the headline metrics."""
    configs = [_config(record) for record in records]
    keys = differing_keys(configs)
    table = Table(box=None, header_style="bold")
    for key in keys:
        table.add_column(key.removesuffix(".name"), overflow="fold")
    for headline in ("top-1 %", "95 %", "float %", "SQNR w dB", "kB", "s", "status"):
        table.add_column(headline, no_wrap=True)
    for record, config in zip(records, configs, strict=True):
        (top1, digits), *others = COLUMNS
        numbers = [_mean([record["metrics"]], top1, digits), _of_one_run(record["metrics"])]
        numbers += [_mean([record["metrics"]], name, *form) for name, *form in others]
        table.add_row(*(str(config.get(key)) for key in keys), *numbers, record["status"])
    return table


def _of_one_run(metrics: dict[str, Any]) -> str:
    """The binomial interval of a single accuracy."""
    if "top1" not in metrics or "test_images" not in metrics:
        return "-"
    low, high = accuracy_interval(metrics["top1"], metrics["test_images"])
    return f"{low:.1f} to {high:.1f}"
