"""Binary: -1 and 1 times the scale.

    q(v) = 1 for v >= 0, -1 for v < 0

Courbariaux, Bengio, David, "BinaryConnect: Training Deep Neural Networks with binary weights during propagations",
NeurIPS 2015, arXiv:1511.00363. Stochastic rounding takes 1 with probability clip((v + 1) / 2, 0, 1), their equation 2;
floor and ceil take what lies below and above.
"""

import jax.numpy as jnp

from qresearch.core.grid import clip
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.rounding import Rounding, round_to_whole


@pytree_dataclass
class Binary:
    """The two values -1 and 1."""

    @property
    def bits(self):
        return 1

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
        return 2 * self.high

    @property
    def count(self):
        return 2

    def describe(self):
        return "binary"

    def with_sign(self, has_negative):
        """Itself."""
        return self

    def round(self, v, rounding, noise):
        if rounding in (Rounding.half_even, Rounding.half_away):  # zero, the only tie, goes up
            return jnp.where(jnp.isnan(v), v, jnp.where(v < 0, -1.0, 1.0))
        return 2 * round_to_whole((clip(v, self.low, self.high) + 1) / 2, rounding, noise) - 1

    def encode(self, values):
        return (values > 0).astype(jnp.uint8)

    def decode(self, codes):
        return 2 * codes.astype(jnp.float32) - 1
