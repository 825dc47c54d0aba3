"""The runs that a table asks for, and those that there are: found by the hash of their configurations.

A record counts wherever it lies below `runs_dir` and whichever command made it. A budget whose overrides change a
number has hashes of its own, so its records are never taken for those of another.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import omegaconf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from qresearch.compose import Composer
from qresearch.config.check import check, config_hash
from qresearch.config.schema import ConfigError
from qresearch.store.index import collect, indexed
from qresearch.tables.cell import TableError
from qresearch.tables.sweep_table import Budget, Planned, SweepTable

Records = dict[str, dict[str, Any]]  # by config hash


class Found(NamedTuple):
    """The records below a folder, and messages about those that cannot be read."""

    records: Records
    bad: list[str]


def cells_of(table: SweepTable, budget: Budget, composer: Composer) -> list[tuple[Planned, str]]:
    """The runs of a budget with the hashes of their configurations.

    Raises TableError with the cell for overrides that compose to no valid configuration.
    """
    found = []
    for planned in table.plan(budget):
        try:
            cfg = check(composer.compose(_single(planned.overrides)))
        except (ConfigError, HydraException, omegaconf.errors.OmegaConfBaseException) as error:
            message = " ".join(str(error).split())
            raise TableError(f"row {planned.row!r}, column {planned.column!r}: {message}") from error
        found.append((planned, config_hash(cfg)))
    return found


def find_records(runs: Path) -> Found:
    """Every record below a folder; none where there is no such folder."""
    if not runs.is_dir():
        return Found({}, [])
    bad = collect(runs).bad
    records: Records = {}
    for record in indexed(runs):
        # A cell that failed has no hash; its folder in a sweep has.
        name = record["config_hash"] or Path(record["path"]).parent.name
        records[name] = max(records.get(name, record), record, key=_rank)
    return Found(records, bad)


def _rank(record: dict[str, Any]) -> tuple[bool, str]:
    """Of several runs of one cell the last counts; one that failed only where there is no other."""
    return record["status"] != "failed", record["finished_at"] or ""


def _single(overrides: Sequence[str]) -> list[str]:
    """The overrides, none of which spans several cells."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line} spans several cells; give each of them a row or a column.")
    return list(overrides)
