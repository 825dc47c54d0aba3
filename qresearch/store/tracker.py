"""Who listens to a run while it goes. A tracker is told what happens; no result depends on it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """A listener to runs that follow one another: start, any number of logs, finish."""

    def start(self, *, folder: Path, name: str, group: str | None, config: dict) -> None:
        """A run begins in `folder`, with its resolved config; the runs of a sweep share their `group`."""

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        """The curves (loss, accuracy, scales) at one step."""

    def finish(self, record: Mapping) -> None:
        """The run is over and `record`, the contents of its result.json, is already on disk."""


@dataclasses.dataclass(frozen=True)
class NoTracker:
    """The tracker that listens to nothing."""

    def start(self, *, folder: Path, name: str, group: str | None, config: dict) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        pass

    def finish(self, record: Mapping) -> None:
        pass
