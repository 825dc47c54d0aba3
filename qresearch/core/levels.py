"""Rounding to a sorted array of levels.

A chain of selects while the levels are few: XLA keeps it in one pass over the data. A search in the sorted
array beyond that.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qresearch.core.rounding import Rounding

CHAIN = 64  # levels up to which the chain is faster on a CPU

Levels = Float[Array, " levels"]


def round_to_levels(
    v: Float[Array, "..."], levels: Levels, rounding: Rounding, noise: Float[Array, "..."] | None
) -> Float[Array, "..."]:
    """The level that `rounding` chooses for each `v`; NaN stays NaN."""
    below, above = levels[:-1], levels[1:]
    if rounding is Rounding.stochastic:
        assert noise is not None  # core/fake_quantize.py asks for a key
        lower, upper = _select(v, levels, above, exclude=False), _select(v, levels, below, exclude=True)
        gap = upper - lower
        rounded = jnp.where((noise * gap < v - lower) & (gap > 0), upper, lower)
    elif rounding in (Rounding.floor, Rounding.ceil):
        up = rounding is Rounding.ceil
        rounded = _select(v, levels, below if up else above, exclude=up)
    else:
        middle = below + (above - below) / 2
        lower_wins = middle < 0 if rounding is Rounding.half_away else np.arange(levels.size - 1) % 2 == 0
        rounded = _select(v, levels, middle, exclude=lower_wins)
    return jnp.where(jnp.isnan(v), v, rounded)


def level_index(values: Float[Array, "..."], levels: Levels) -> Int[Array, "..."]:
    """The index of the level nearest to each value."""
    return jnp.searchsorted((levels[:-1] + levels[1:]) / 2, values).astype(jnp.int32)


def _select(v, levels, thresholds, *, exclude):
    """The level above the last threshold that v passes; equal to one, v passes it if it is not to `exclude`."""
    if levels.size > CHAIN:
        index = jnp.searchsorted(thresholds, v, side="right")
        last = jnp.maximum(index - 1, 0)
        on_it = (index > 0) & (v == thresholds[last]) & jnp.broadcast_to(exclude, thresholds.shape)[last]
        return levels[jnp.where(on_it, index - 1, index)]
    rounded = jnp.broadcast_to(levels[0], v.shape)
    for index in range(levels.size - 1):
        rounded = jnp.where(_passes(v, thresholds[index], _at(exclude, index)), levels[index + 1], rounded)
    return rounded


def _at(exclude, index):
    return exclude if isinstance(exclude, bool) else exclude[index]


def _passes(v, threshold, exclude):
    if isinstance(exclude, jax.Array):  # known in the program only
        return (v > threshold) | ((v == threshold) & ~exclude)
    return v > threshold if exclude else v >= threshold
