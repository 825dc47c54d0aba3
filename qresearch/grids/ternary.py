"""Ternary: -1, 0 and 1 times the scale.

Li, Liu, "Ternary Weight Networks", 2016, arXiv:1605.04711. Values up to half a step from zero become zero.
"""

import jax.numpy as jnp

from qresearch.core.grid import clip
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.rounding import round_to_whole


@pytree_dataclass
class Ternary:
    """The three values -1, 0, 1, stored in two bits."""

    @property
    def bits(self):
        return 2

    @property
    def symmetric(self):
        return True

    @property
    def uniform(self):
        return True

    @property
    def low(self):
        return -jnp.ones((), jnp.float32)

    @property
    def high(self):
        return jnp.ones((), jnp.float32)

    @property
    def reach(self):
        return self.high

    @property
    def top_step(self):
        return self.high

    @property
    def count(self):
        return 3

    def describe(self):
        return "ternary"

    def with_sign(self, has_negative):
        """Itself."""
        return self

    def round(self, v, rounding, noise):
        return round_to_whole(clip(v, self.low, self.high), rounding, noise)

    def encode(self, values):
        return values.astype(jnp.int8)

    def decode(self, codes):
        return codes.astype(jnp.float32)
