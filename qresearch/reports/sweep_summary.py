"""What a sweep says: a line or a bar while its cells run, a table of them at the end, and the totals.

It is a Hydra callback, so that it speaks for `qresearch sweep` and for `python -m qresearch.run -m` alike.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.table import Table

from qresearch.reports.console import console, progress_bar
from qresearch.store.record import read_records


class SweepSummary(Callback):
    """Counts cells as they end; `active` is the sweep that runs now, for whoever has to end it early."""

    active: "SweepSummary | None" = None
    totals = ""  # the last line of the last sweep

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        SweepSummary.active = self
        self.folder, self.started = Path(config.hydra.sweep.dir), time.monotonic()
        self.total, self.done = _cells(config), 0
        self.display = progress_bar()
        self.bar = self.display.__enter__()
        self.bar("cells", 0, self.total)

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        if SweepSummary.active is None:
            return
        self.done += 1
        overrides = " ".join(job_return.overrides or [])
        values = " ".join(override.partition("=")[2] for override in job_return.overrides or [])
        self.bar(f"cells ({values})" if len(values) <= 30 else "cells", self.done, self.total)
        if not console.is_terminal:
            top1 = job_return._return_value if isinstance(job_return._return_value, float) else None
            shown = "no result" if top1 is None else f"top-1 {top1:.2f} %"
            print(f"cell {self.done}/{self.total}  {overrides}  {shown}", flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        records = self.close()
        if any(record["status"] == "failed" for record in records):
            sys.exit(1)

    def close(self) -> list[dict[str, Any]]:
        """Print the table of the cells that have finished, and the totals; returns their records."""
        SweepSummary.active = None
        self.display.__exit__(None, None, None)
        records = read_records(self.folder) if self.folder.is_dir() else []
        if records:
            console.print(cell_table(records))
        print(f"results: {self.folder}")
        SweepSummary.totals = totals_line(records, time.monotonic() - self.started)
        print(SweepSummary.totals, flush=True)
        return records


def _cells(config: DictConfig) -> int:
    """How many cells the sweep's overrides span."""
    given = list(config.hydra.overrides.task)
    keys = {override.split("=", 1)[0] for override in given}
    params = config.hydra.sweeper.get("params") or {}
    given += [f"{key}={value}" for key, value in params.items() if key not in keys]
    total = 1
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None  # it is what glob(...) looks through
    for override in OverridesParser.create(loader).parse_overrides(given):
        if override.is_sweep_override():
            total *= len(list(override.sweep_string_iterator()))
    return total


def totals_line(records: list[dict[str, Any]], seconds: float) -> str:
    """`sweep: N cells, G groups, C programs, S s`, with the programs by name behind it."""
    groups = {record["group"] for record in records if "group" in record}
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record.get("programs", {}))
    named = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    line = f"sweep: {len(records)} cells, {len(groups)} groups, {sum(counts.values())} programs, {seconds:.1f} s"
    return f"{line} ({named})" if named else line


def cell_table(records: list[dict[str, Any]]) -> Table:
    """One row for each cell: the keys in which the cells differ, and the headline metrics."""
    configs = [_flat(record["config"]) for record in records]
    keys = differing_keys(configs)
    table = Table(box=None, header_style="bold")
    for key in keys:
        table.add_column(key.removesuffix(".name"), overflow="fold")
    for headline in ("top-1 %", "float %", "SQNR w dB", "kB", "s", "status"):
        table.add_column(headline, no_wrap=True)
    for record, config in zip(records, configs, strict=True):
        metrics = record["metrics"]
        numbers = (
            _number(metrics.get("top1"), 2),
            _number(metrics.get("top1_float"), 2),
            _number(metrics.get("sqnr_weight_db"), 1),
            _number(metrics.get("size_bytes"), 1, 1e-3),
            _number(metrics.get("seconds"), 1),
        )
        table.add_row(*(str(config.get(key)) for key in keys), *numbers, record["status"])
    return table


def differing_keys(configs: Iterable[dict[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all configs; of keys that always change together, the first
    (a class comes last).
    """
    configs = list(configs)
    keys = list(dict.fromkeys(key for config in configs for key in config))
    columns: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: key.endswith("_target_")):
        values = [json.dumps(config.get(key)) for config in configs]
        pattern = json.dumps([values.index(value) for value in values])
        if len(set(values)) > 1:
            columns.setdefault(pattern, key)
    chosen = set(columns.values())
    return [key for key in keys if key in chosen]


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat


def _number(value: float | int | None, digits: int, factor: float = 1.0) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"
