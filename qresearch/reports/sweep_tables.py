"""The tables at the end of a sweep: settings over their seeds, methods in pairs, or cell by cell; and the totals."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from rich.table import Table

from qresearch.config.schema import UNHASHED
from qresearch.reports.comparison import compare, comparison_table
from qresearch.reports.differing import differing_keys
from qresearch.reports.statistics import accuracy_interval, mean_interval, shown
from qresearch.store.index import flat

COLUMNS: tuple[tuple[Any, ...], ...] = (
    ("top1", 2),
    ("top1_float", 2),
    ("sqnr_weight_db_min", 1),
    ("size_bytes", 1, 1e-3),
    ("seconds", 1),
)


def totals_line(records: list[dict[str, Any]], seconds: float, *, kept: Collection[str] = ()) -> str:
    """`sweep: N cells (K kept), G groups, C programs, S s`, with the programs by name behind it."""
    groups = {record["group"] for record in records if "group" in record}
    counts: Counter[str] = Counter()
    for record in records:
        if record.get("config_hash") not in kept:
            counts.update(record.get("programs", {}))
    named = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    earlier = f" ({len(kept)} kept)" if kept else ""
    told = [_counted(len(records), "cell") + earlier, _counted(len(groups), "group")]
    line = f"sweep: {', '.join(told)}, {_counted(sum(counts.values()), 'program')}, {seconds:.1f} s"
    return f"{line} ({named})" if named else line


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def tables(records: list[dict[str, Any]]) -> list[Table]:
    """What is shown of a sweep: its settings over their seeds and how methods compare, or else its cells."""
    seeds = {record["config"].get("seed") for record in records}
    finished = [record for record in records if record["status"] == "finished"]
    if len(seeds) < 2 or len(finished) < len(records) or not records:
        return [cell_table(records)] if records else []
    found = [settings_table(records)]
    if "method.name" in differing_keys(map(_config, records)):
        found.append(comparison_table(compare(records, "method"), title="the same seeds in pairs"))
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
    for headline in ("seeds", "top-1 % ± 95 %", "float %", "worst SQNR w dB", "kB", "s"):
        table.add_column(headline, no_wrap=True, justify="right")
    for setting, metrics in settings.items():
        columns = [_mean(metrics, name, *form) for name, *form in COLUMNS]
        table.add_row(*setting, str(len(metrics)), *columns)
    return table


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
    for headline in ("top-1 %", "95 %", "float %", "worst SQNR w dB", "kB", "s", "status"):
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
