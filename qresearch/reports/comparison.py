"""Cells that differ in one key alone, in pairs: which value of it is better, setting by setting.

Two cells are a pair where every key of their configurations is equal, the seed and the recipe of the float baseline
among them, except

- the key that is compared: a leaf (`weight.bits`), a node with all below it (`weight.quantizer`), or several of them
  that change together (`["weight.bits", "act.bits"]`);
- what changes no number: `tracker`, `sweep`, `runs_dir`;
- where methods are compared (`method`), the keys that only one of them reads (`optim` and `grad`: QAT, `ptq`: PTQ) and
  those that each of them sets for itself (observer, quantizer and estimator of weights and inputs). Cells of one method
  that differ in what it reads of these are variants of it, each compared for itself.

A pair has one float accuracy: its cells come from the same weights. `float` cells have no partner where methods are
compared, since they read none of the keys of quantization: every cell carries its float accuracy itself.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from qresearch.reports.differing import differing_keys
from qresearch.reports.statistics import Interval, Paired, mean_interval, paired_difference, shown
from qresearch.store.index import flat

IGNORED = ("tracker", "sweep", "runs_dir")
READ_BY = {"optim": "qat", "grad": "qat", "ptq": "ptq"}
EACH_SETS = tuple(f"{side}.{part}" for side in ("weight", "act") for part in ("observer", "quantizer", "estimator"))

Flat = dict[str, Any]
Runs = dict[int, Mapping[str, Any]]  # by seed


class Comparison(NamedTuple):
    """One value of a key against another in one setting; the intervals are over the paired seeds."""

    setting: Flat  # the keys that tell the settings of a comparison apart
    a_name: str
    b_name: str
    a: Interval
    b: Interval
    difference: Paired  # b - a
    unpaired: int  # seeds of either that have no finished partner from the same float weights


def compare(
    records: Iterable[Mapping[str, Any]], key: str | Sequence[str], *, metric: str = "top1", **words: Any
) -> list[Comparison]:
    """Every two values of `key` that share a setting, b against a, in the order of the records.

    `words` (unit, higher_is_better, digits) go to `paired_difference`.
    Raises ValueError for a key that no record has.
    """
    keys = _keys(key)
    settings, sides, rests = _sorted_out(records, keys)
    if not any(_under(name, keys) for side in sides.values() for name in side):
        raise ValueError(f"No record has the key {' or '.join(keys)}; give one of the configuration, such as method.")
    names, told = _names(sides, keys), differing_keys(rests.values())
    found = []
    for rest, variants in settings.items():
        setting = {name: rests[rest].get(name) for name in told}
        for a, b in itertools.combinations(variants, 2):
            pairs = _pairs(variants[a], variants[b], metric)
            if _compared(sides[a], keys) != _compared(sides[b], keys) and pairs:
                first, second = [list(values) for values in zip(*pairs, strict=True)]
                difference = paired_difference(second, first, **words)
                unpaired = len(variants[a].keys() | variants[b].keys()) - len(pairs)
                means = mean_interval(first), mean_interval(second)
                found.append(Comparison(setting, names[a], names[b], *means, difference, unpaired))
    return found


def comparison_rows(comparisons: Sequence[Comparison], *, digits: int = 1) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of a table of comparisons: setting, both means, and the difference in words."""
    keys, rows = _setting_keys(comparisons), []
    for found in comparisons:
        means = [found.a_name, shown(found.a, digits), found.b_name, shown(found.b, digits)]
        rows.append([*_setting(found, keys), *means, found.difference.words + _unpaired(found)])
    return [*map(_head, keys), "a", "mean of a", "b", "mean of b", "b against a"], rows


def comparison_table(comparisons: Sequence[Comparison], *, title: str = "", digits: int = 1) -> Table:
    """The comparisons for a console, narrow: a column for the setting, and what all of them share said in its title."""
    keys = _setting_keys(comparisons)
    counts = {found.difference.n for found in comparisons}
    pairs = f"{counts.pop()} pairs" if title and len(counts) == 1 else ""
    table = Table(title=Text(f"{title} ({pairs} each)" if pairs else title), box=None, header_style="bold")
    table.title_justify = "left"
    heads = list(map(_head, keys))
    setting = [", ".join(_short(head, heads) for head in heads)] if keys else []
    for name in (*setting, "a", "b", "b against a"):
        table.add_column(Text(name), overflow="fold", no_wrap=name in ("a", "b"))
    for found in comparisons:
        words = found.difference.words.replace(f", {pairs})", ")") if pairs else found.difference.words
        sides = [f"{found.a_name} {shown(found.a, digits)}", f"{found.b_name} {shown(found.b, digits)}"]
        values = [", ".join(_setting(found, keys))] if keys else []
        table.add_row(*map(Text, [*values, *sides, words + _unpaired(found)]))
    return table


def _setting_keys(comparisons: Sequence[Comparison]) -> list[str]:
    """The keys of all settings."""
    return list(dict.fromkeys(key for found in comparisons for key in found.setting))


def _setting(found: Comparison, keys: Sequence[str]) -> list[str]:
    return [str(found.setting.get(key)) for key in keys]


def _head(key: str) -> str:
    return key.removesuffix(".name")


def _unpaired(found: Comparison) -> str:
    """What follows the words on a difference where seeds have no partner."""
    return f"; {found.unpaired} seed{'s' * (found.unpaired > 1)} without a partner" if found.unpaired else ""


def _short(key: str, keys: Sequence[str]) -> str:
    """The last word of a key where no other key ends with it."""
    last = key.rsplit(".", 1)[-1]
    return last if sum(other.rsplit(".", 1)[-1] == last for other in keys) == 1 else key


def _keys(key: str | Sequence[str]) -> tuple[str, ...]:
    keys = (key,) if isinstance(key, str) else tuple(key)
    return tuple("method" if name == "method.name" else name for name in keys)  # batch norm goes with its method


def _sorted_out(
    records: Iterable[Mapping[str, Any]], keys: tuple[str, ...]
) -> tuple[dict[str, dict[str, Runs]], dict[str, Flat], dict[str, Flat]]:
    """The records by setting, side and seed, and what the texts stand for that name sides and settings."""
    settings: dict[str, dict[str, Runs]] = {}
    sides: dict[str, Flat] = {}
    rests: dict[str, Flat] = {}
    for record in records:
        config = flat(record["config"])
        if "method" in keys and config.get("method.name") == "float":
            continue
        side, rest = _split(config, keys)
        names = _text(rest), _text(side)
        rests[names[0]], sides[names[1]] = rest, side
        runs = settings.setdefault(names[0], {}).setdefault(names[1], {})
        seed = config.get("seed", 0)
        runs[seed] = max(runs.get(seed, record), record, key=_rank)
    return settings, sides, rests


def _split(config: Flat, keys: tuple[str, ...]) -> tuple[Flat, Flat]:
    """The keys that a comparison leaves free, as far as the cell's method reads them, and those that pair cells."""
    free, unread = keys, ()
    if "method" in keys:
        free = (*keys, *READ_BY, *EACH_SETS)
        unread = tuple(key for key, method in READ_BY.items() if config.get("method.name") != method)
    side = {key: value for key, value in config.items() if _under(key, free) and not _under(key, unread)}
    rest = {key: value for key, value in config.items() if not _under(key, (*free, *IGNORED, "seed"))}
    return side, rest


def _pairs(a: Runs, b: Runs, metric: str) -> list[tuple[float, float]]:
    """The values of the seeds that both have finished from the same float weights."""
    both = [(a[seed], b[seed]) for seed in a if seed in b]
    return [
        (first["metrics"][metric], second["metrics"][metric])
        for first, second in both
        if first["status"] == second["status"] == "finished"
        and first["metrics"].get("top1_float") == second["metrics"].get("top1_float")
        and metric in first["metrics"]
        and metric in second["metrics"]
    ]


def _rank(record: Mapping[str, Any]) -> tuple[bool, str]:
    """Of several runs of one cell the last that finished counts."""
    return record["status"] == "finished", record.get("finished_at") or ""


def _names(sides: dict[str, Flat], keys: tuple[str, ...]) -> dict[str, str]:
    """A short name for each side: the values of the compared keys, and what else tells the variants of one apart."""
    heads = {text: ", ".join(_word(side, key) for key in keys) for text, side in sides.items()}
    names = {}
    for text, side in sides.items():
        alike = [sides[other] for other in sides if heads[other] == heads[text]]
        told = [f"{key.removesuffix('._target_')}={_last(side.get(key))}" for key in differing_keys(alike)]
        names[text] = f"{heads[text]} ({', '.join(told)})" if told else heads[text]
    return names


def _word(side: Flat, key: str) -> str:
    """The value of a leaf; of a node its name or the class that it names."""
    found = next((side[name] for name in (key, f"{key}.name", f"{key}._target_") if name in side), None)
    return str(_last(found))


def _last(value: Any) -> Any:
    """The last word of a class's path."""
    return value.rsplit(".", 1)[-1] if isinstance(value, str) else value


def _compared(side: Flat, keys: tuple[str, ...]) -> Flat:
    return {key: value for key, value in side.items() if _under(key, keys)}


def _under(key: str, nodes: Iterable[str]) -> bool:
    return any(key == node or key.startswith(f"{node}.") for node in nodes)


def _text(config: Flat) -> str:
    return json.dumps(config, sort_keys=True)
