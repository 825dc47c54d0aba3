"""A histogram that merges exactly: its bins are a property of float32, not of the data.

The bin of a value is its sign, its exponent and the leading bits of its mantissa, so that every octave has
the same number of bins and a value is known to a relative 2^-8. Counts are integers: batches add up to the
same histogram in any order. Magnitudes below 2^LOWEST count as zero; magnitudes of 2^(LOWEST + OCTAVES) and
above fall into the last bin.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from qresearch.core.granularity import split, spread

MANTISSA_BITS = 8
LOWEST, OCTAVES = -24, 40
MAGNITUDES = OCTAVES << MANTISSA_BITS


class Histogram(NamedTuple):
    """Counts (groups..., 2 * MAGNITUDES + 1) of the bins from the most negative over zero to the most positive."""

    counts: UInt32[Array, "..."]


def histogram(x: Float[Array, "..."], groups: Sequence[int]) -> Histogram:
    """The histogram of each group of elements that share a scale; `groups` is the shape of the scale."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.int32)
    magnitude = (bits >> (23 - MANTISSA_BITS)) - ((127 + LOWEST) << MANTISSA_BITS)  # 127: the bias of float32
    magnitude = jnp.clip(magnitude + 1, 0, MAGNITUDES)
    bins = jnp.where(x < 0, -magnitude, magnitude) + MAGNITUDES
    number, width = math.prod(groups), 2 * MAGNITUDES + 1
    if number * width >= 2**27:
        raise ValueError(
            f"A histogram of {number} groups needs {number * width * 4 / 1e9:.0f} GB; use observer=absmax or minmax, "
            "or fewer scales (granularity=channel or tensor)."
        )
    owner = jnp.arange(number, dtype=jnp.int32).reshape(groups)
    flat = (split(bins, groups) + width * spread(owner, x.shape)).reshape(-1)
    counts = jnp.zeros(number * width, jnp.uint32).at[flat].add(jnp.uint32(1))
    return Histogram(counts.reshape(*groups, width))


def bin_edges() -> Float[Array, " edges"]:
    """The edges of all bins in rising order, one more than there are bins; zero's own bin reaches from
    -2^LOWEST to 2^LOWEST.
    """
    steps = jnp.arange(MAGNITUDES + 1, dtype=jnp.int32) + ((127 + LOWEST) << MANTISSA_BITS)
    positive = jax.lax.bitcast_convert_type(steps << (23 - MANTISSA_BITS), jnp.float32)
    return jnp.concatenate([-positive[::-1], positive])


def bin_points(count: int) -> Float[Array, "count bins"]:
    """`count` values spread evenly over each bin; exactly 0 for the bin of zero."""
    edges = bin_edges()
    low, high = edges[None, :-1], edges[None, 1:]
    share = ((jnp.arange(count, dtype=jnp.float32) + 0.5) / count)[:, None]
    return (low + share * (high - low)).at[:, MAGNITUDES].set(0.0)
