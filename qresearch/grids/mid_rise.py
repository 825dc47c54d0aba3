"""Mid-rise integers: an even number of equal steps with no level at zero.

    levels  k + 1/2  for  k = -2^(b-1) .. 2^(b-1) - 1

Symmetric with all 2^b codes in use; one bit gives -1/2 and 1/2. The uniform quantizers of Max, "Quantizing for Minimum
Distortion", IRE Transactions on Information Theory 6(1), 1960, for an even number of levels; the grids of QuEST
(Panferov et al., 2025, arXiv:2502.05003) and of stretched elastic quantization (ParetoQ, Liu et al., 2025,
arXiv:2502.02631).
"""

import jax.numpy as jnp

from qresearch.core.grid import clip
from qresearch.core.pytree import WholeNumber, leaf, pytree_dataclass
from qresearch.core.rounding import Rounding, round_to_whole

LARGEST_BITS = 16


@pytree_dataclass
class MidRise:
    """The odd multiples of one half in `bits` bits.

    Raises ValueError for bits outside 1..16.
    """

    bits: WholeNumber = leaf(4)

    def __post_init__(self):
        if isinstance(self.bits, int) and not 1 <= self.bits <= LARGEST_BITS:
            raise ValueError(f"bits={self.bits} is outside 1..{LARGEST_BITS}, the widths of mid-rise grids.")

    @property
    def symmetric(self):
        return True

    @property
    def uniform(self):
        return True

    @property
    def low(self):
        return -self.high

    @property
    def high(self):
        return self._half - 0.5

    @property
    def reach(self):
        return self.high

    @property
    def top_step(self):
        return jnp.ones((), jnp.float32)

    @property
    def count(self):
        return (2 * self._half).astype(jnp.int32)

    def describe(self):
        return f"mid-rise{int(self.bits)}"

    def with_sign(self, has_negative):
        """Itself: it is made for values of both signs."""
        return self

    def round(self, v, rounding, noise):
        v = clip(v, self.low, self.high)
        if rounding is Rounding.half_away:  # halfway between two levels lies a whole number
            return jnp.where(v >= 0, jnp.floor(v) + 0.5, jnp.ceil(v) - 0.5)
        return round_to_whole(v - 0.5, rounding, noise) + 0.5

    def encode(self, values):
        return (values - 0.5).astype(jnp.int8 if isinstance(self.bits, int) and self.bits <= 8 else jnp.int32)

    def decode(self, codes):
        return codes.astype(jnp.float32) + 0.5

    @property
    def _half(self):
        """2^(bits - 1)"""
        bits = jnp.asarray(self.bits, jnp.int32)
        return jnp.left_shift(jnp.ones_like(bits), bits - 1).astype(jnp.float32)
