"""How long a batch takes: several engines, one call of each in turn, so that all share what else the machine does."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

WARM_UP = 5  # calls of each that do not count


class Latency(NamedTuple):
    """Milliseconds for a batch: the median, and the ends between which nine calls in ten lie."""

    median_ms: float
    low_ms: float  # the 5th percentile
    high_ms: float  # the 95th
    calls: int


def latencies(calls: Mapping[str, Callable[[], Any]], *, rounds: int, clock=time.perf_counter) -> dict[str, Latency]:
    """By the name of the call. Raises ValueError for less than 20 rounds, which have no percentiles."""
    if rounds < 20:
        raise ValueError(f"rounds={rounds} is too few for percentiles; take 20 or more.")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + rounds):
        for name, call in calls.items():
            began = clock()
            call()
            if number >= WARM_UP:
                times[name].append(1e3 * (clock() - began))
    return {name: _latency(taken) for name, taken in times.items()}


def _latency(times: list[float]) -> Latency:
    median, low, high = np.percentile(times, (50, 5, 95)).tolist()
    return Latency(median, low, high, len(times))
