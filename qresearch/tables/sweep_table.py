"""A table of runs: rows and columns are overrides, seeds give the spread, a budget says how much is run."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple

from omegaconf import MISSING

from qresearch.reports.published import published
from qresearch.tables.cell import TableError
from qresearch.tables.metric import MINUS, terms
from qresearch.tables.printed import Printed, as_printed, change

BUDGETS = ("smoke", "short", "paper")


@dataclasses.dataclass
class Budget:
    """How much of a table is run; what is left out is as the table says."""

    minutes: float = MISSING  # measured on the hardware
    hardware: str = MISSING
    overrides: list[str] = dataclasses.field(default_factory=list)  # after those of the cell
    seeds: list[int] | None = None
    rows: list[str] | None = None  # names
    columns: list[str] | None = None

    def cost(self) -> str:
        """`2 minutes on two CPU cores`."""
        return f"{self.minutes:g} minute{'s' * (self.minutes != 1)} on {self.hardware}"


class UnknownBudget(TableError):
    """A budget that a table does not have."""


class Planned(NamedTuple):
    """One run that a table asks for."""

    row: str
    column: str
    seed: int
    overrides: list[str]


@dataclasses.dataclass
class SweepTable:
    """Rows and columns of runs, and what is published for them."""

    kind: ClassVar[str] = "sweep"

    title: str = MISSING
    rows: dict[str, list[str]] = MISSING  # overrides by name
    columns: dict[str, list[str]] = MISSING
    budgets: dict[str, Budget] = MISSING  # by smoke, short, paper
    overrides: list[str] = dataclasses.field(default_factory=list)  # of all cells, before those of row and column
    seeds: list[int] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    metric: Any = "top1"  # a metric of the records, or the difference of two; one for all or {COLUMN: metric}
    higher_is_better: bool = True
    decimals: Any = 2  # one number for all columns or {COLUMN: number}
    published: str | None = None  # the id of an entry of published.yaml
    places: dict[str, dict[str, list[str] | None]] | None = None  # ROW: {COLUMN: [published row, published column]}
    tolerance: float | None = None  # in the unit of the metric
    different: dict[str, Any] | None = None  # ROW: reason, or ROW: {COLUMN: reason}
    note: str = ""  # a sentence for below the table
    compare: list[str] | None = None  # keys that change together, compared pair by pair below the table

    def __post_init__(self):
        """Raises ValueError for names that belong to no row, column or budget, and for what does not go together."""
        if not (self.rows and self.columns and self.budgets and self.seeds):
            raise ValueError("rows, columns, budgets and seeds must each have something in them.")
        _among("budgets", self.budgets, BUDGETS)
        for name, budget in self.budgets.items():
            self._check_budget(name, budget)
        for key, by_row in (("places", self.places or {}), ("different", self.different or {})):
            _among(key, by_row, self.rows)
            for row, by_column in by_row.items():
                _among(f"{key}.{row}", by_column if isinstance(by_column, dict) else (), self.columns)
        for row, places in (self.places or {}).items():
            for column, place in places.items():
                if place is not None and len(place) != 2:
                    raise ValueError(f"places.{row}.{column}: {place} is not [published row, published column].")
        for key, by_column in (("metric", self.metric), ("decimals", self.decimals)):
            if isinstance(by_column, dict):
                _among(key, by_column, self.columns)
                _among("columns", self.columns, by_column)
        for decimals in self.decimals.values() if isinstance(self.decimals, dict) else [self.decimals]:
            if type(decimals) is not int or decimals < 0:
                raise ValueError(f"decimals: {decimals!r} is no number of decimals; give 0 or more.")
        if self.published is not None and self.tolerance is None:
            raise ValueError("tolerance must say how near to the published value a cell is to come.")
        if self.compare is not None and (isinstance(self.metric, dict) or MINUS in self.metric):
            raise ValueError("compare needs one metric for all columns, and no difference.")

    def _check_budget(self, name: str, budget: Budget) -> None:
        _among(f"budgets.{name}.rows", budget.rows or (), self.rows)
        _among(f"budgets.{name}.columns", budget.columns or (), self.columns)
        if [] in (budget.rows, budget.columns, budget.seeds):
            raise ValueError(
                f"budgets.{name}: rows, columns and seeds must each have something in them, or be left out."
            )
        seeds = self.seeds if budget.seeds is None else budget.seeds
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"budgets.{name}: the seeds {seeds} name a run twice; one run is one value.")

    def budget(self, name: str | None) -> Budget:
        """A budget by its name; without one `short` where there is that, else the smallest.

        Raises UnknownBudget with those that there are.
        """
        name = name or min(self.budgets, key=lambda name: (name != "short", BUDGETS.index(name)))
        if name not in self.budgets:
            raise UnknownBudget(f"There is no budget {name!r}; there are {', '.join(self.budgets)}.")
        return self.budgets[name]

    def plan(self, budget: Budget) -> list[Planned]:
        """The runs of a budget, row by row."""
        seeds = self.seeds if budget.seeds is None else budget.seeds
        return [
            Planned(row, column, seed, [*self.overrides, *ours, *theirs, *budget.overrides, f"seed={seed}"])
            for row, ours in self.rows.items()
            if budget.rows is None or row in budget.rows
            for column, theirs in self.columns.items()
            if budget.columns is None or column in budget.columns
            for seed in seeds
        ]

    def check_published(self) -> None:
        """Raises TableError where what is published for a cell does not exist."""
        for row in self.rows:
            for column in self.columns:
                self.published_of(row, column)

    def metric_of(self, column: str) -> str:
        """The metric of a column."""
        return self.metric[column] if isinstance(self.metric, dict) else self.metric

    def decimals_of(self, column: str) -> int:
        """The decimals that a column is shown with."""
        return self.decimals[column] if isinstance(self.decimals, dict) else self.decimals

    def reason_of(self, row: str, column: str) -> str:
        """Why the published setting of a cell is not ours; empty where it is."""
        reasons = (self.different or {}).get(row, {})
        return reasons.get(column, "") if isinstance(reasons, dict) else str(reasons)

    def published_of(self, row: str, column: str) -> Printed | None:
        """The published number of a cell; None where `places` has null for it, or nothing is published.

        Raises TableError where the entry, its row or its column does not exist.
        """
        place = (self.places or {}).get(row, {}).get(column, [row, column])
        if self.published is None or place is None:
            return None
        values = published(self.published).values
        if place[0] not in values:
            raise TableError(f"published {self.published} has no row {place[0]!r}; it has {', '.join(values)}.")
        try:
            first, second = terms(place[1], values[place[0]])
            number = as_printed(first)
            return number if second is None else change(number, as_printed(second))
        except ValueError as error:
            raise TableError(f"published {self.published}, row {place[0]!r}: {error}") from error


def _among(key: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is none of {', '.join(known)}.")
