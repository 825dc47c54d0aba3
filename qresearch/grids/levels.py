"""A sorted list of levels: any grid that a person can write down, and the form that all codebooks take.

    q(v) = the level nearest to v;    the scale maps the largest magnitude to the outermost level

A value halfway between two levels takes the one of even index (rounding=half_even).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qresearch.core.levels import level_index, round_to_levels
from qresearch.core.pytree import leaf, pytree_dataclass

LARGEST_COUNT = 65536


@pytree_dataclass
class Levels:
    """The values `levels`, in rising order, at least two of them, one of them above zero.

    Raises ValueError for levels that are not finite, not sorted, or too few.
    """

    levels: Any = leaf()  # numbers, or the float32 array that they become
    name: str = "levels"

    def __post_init__(self):
        if isinstance(self.levels, Tracer):
            return
        found = np.asarray(self.levels, np.float32)
        if found.ndim != 1 or not 2 <= found.size <= LARGEST_COUNT:
            raise ValueError(f"levels={self.levels}: a grid needs a list of 2 to {LARGEST_COUNT} numbers.")
        if not np.all(np.isfinite(found)):
            raise ValueError(f"levels={found.tolist()} are not all finite; leave out NaN and infinity.")
        wrong = np.flatnonzero(np.diff(found) <= 0)
        if wrong.size:
            at = int(wrong[0])
            raise ValueError(
                f"levels are not in rising order: {found[at]} is followed by {found[at + 1]}; sort them, each once."
            )
        if found[-1] <= 0:
            raise ValueError(f"levels={found.tolist()}: the largest must be above zero, since a scale is.")
        object.__setattr__(self, "levels", jnp.asarray(found))

    @property
    def bits(self):
        return max(1, (self.count - 1).bit_length())

    @property
    def symmetric(self):
        return True

    @property
    def uniform(self):
        return False

    @property
    def low(self):
        return self.levels[0]

    @property
    def high(self):
        return self.levels[-1]

    @property
    def reach(self):
        # An end at zero is the end of an unsigned grid.
        return jnp.where(self.low < 0, jnp.minimum(-self.low, self.high), self.high)

    @property
    def top_step(self):
        return self.levels[-1] - self.levels[-2]

    @property
    def count(self):
        return self.levels.shape[0]

    def describe(self):
        return f"{self.name} ({self.count} levels)"

    def with_sign(self, has_negative):
        """Itself: the list says what there is."""
        return self

    def round(self, v, rounding, noise):
        return round_to_levels(v, self.levels, rounding, noise)

    def encode(self, values):
        return level_index(values, self.levels).astype(jnp.uint8 if self.count <= 256 else jnp.uint16)

    def decode(self, codes):
        return self.levels[codes.astype(jnp.int32)]
