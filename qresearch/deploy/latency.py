"""How long a batch takes: several engines in turn, so that all share what else the machine does.

A turn is a few calls of one engine. The first of them do not count: they bring its weights back into the caches, and
give the threads of the engine before it the time to rest.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

SETTLING, COUNTED = 3, 5  # calls of a turn


class Latency(NamedTuple):
    """Milliseconds for a batch: the median, and the ends between which nine calls in ten lie."""

    median_ms: float
    low_ms: float  # the 5th percentile
    high_ms: float  # the 95th
    calls: int


def latencies(calls: Mapping[str, Callable[[], Any]], *, rounds: int, clock=time.perf_counter) -> dict[str, Latency]:
    """By the name of the call, from `rounds` calls of each or a few more.

    Raises ValueError for less than 20, which have no percentiles.
    """
    if rounds < 20:
        raise ValueError(f"rounds={rounds} is too few for percentiles; take 20 or more.")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(-(-rounds // COUNTED)):
        for name, call in calls.items():
            for _ in range(SETTLING):
                call()
            for _ in range(COUNTED):
                began = clock()
                call()
                times[name].append(1e3 * (clock() - began))
    return {name: _latency(taken) for name, taken in times.items()}


def _latency(times: list[float]) -> Latency:
    median, low, high = np.percentile(times, (50, 5, 95)).tolist()
    return Latency(median, low, high, len(times))
