"""The question a quantizer answers: which grid, how finely scaled."""

import dataclasses
import enum

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.pytree import WholeNumber, leaf, pytree_dataclass

LARGEST_BITS = 16


class Granularity(enum.StrEnum):
    """How many elements share one scale, said by the axes that the matrix product sums over (`contract`)."""

    tensor = "tensor"  # one scale
    channel = "channel"  # one scale for every index of the axes that are not contracted
    block = "block"  # one for every `block_size` elements along the last contracted axis


class Range(enum.StrEnum):
    """Which codes are used and where the largest value lands. These conventions change numbers at low bits.

    For a signed symmetric grid of b bits, with m = 2^(b-1) - 1:
    """

    narrow = "narrow"  # codes -m..m, the largest magnitude maps to m
    full = "full"  # codes -m-1..m, the largest magnitude maps to m
    half_step = "half_step"  # codes -m-1..m, the largest magnitude maps to m + 1/2 and is clipped to m


@pytree_dataclass
class QuantSpec:
    """An integer grid and its scaling: x ~ (codes - zero_point) * scale.

    `bits` is a number (a leaf), so a sweep over bit-widths shares one compiled program; all else is
    structure. `signed=None` means that calibration decides: unsigned where no value below zero was seen.
    `symmetric=False` adds a zero point (an integer, chosen so that 0.0 is represented exactly).

    Raises ValueError for bits outside 1..16, for a signed symmetric grid of one bit (it has no positive
    code), and for a block size that does not fit the granularity.
    """

    bits: WholeNumber = leaf(8)
    granularity: Granularity | str = Granularity.tensor
    block_size: int | None = None
    symmetric: bool = True
    signed: bool | None = True
    range: Range | str = Range.narrow

    def __post_init__(self):
        object.__setattr__(self, "granularity", Granularity(self.granularity))
        object.__setattr__(self, "range", Range(self.range))
        if isinstance(self.bits, (bool, float, str)) or self.bits is None:
            raise ValueError(f"bits={self.bits!r} is not an integer; give a whole number from 1 to {LARGEST_BITS}.")
        if isinstance(self.bits, int):
            self._check_bits(self.bits)
        is_block = self.granularity is Granularity.block
        if is_block and (self.block_size is None or self.block_size < 1):
            raise ValueError(f"block_size={self.block_size}: granularity=block needs block_size >= 1, for example 32.")
        if not is_block and self.block_size is not None:
            raise ValueError(
                f"block_size={self.block_size} has no meaning for granularity={self.granularity}; "
                "set granularity=block, or block_size=null."
            )

    def _check_bits(self, bits: int):
        if not 1 <= bits <= LARGEST_BITS:
            raise ValueError(f"bits={bits} is outside 1..{LARGEST_BITS}, the widths of integer grids.")
        if bits == 1 and self.symmetric and self.signed is not False:
            raise ValueError(
                "bits=1 on a signed symmetric grid leaves no positive code; "
                "use bits >= 2, signed=false or symmetric=false."
            )
        if bits == 1 and self.signed and self.range == Range.narrow:
            raise ValueError(
                "bits=1 with range=narrow on a signed grid leaves the code 0 alone; use range=full or signed=false."
            )

    @property
    def qmax(self) -> Float[Array, ""]:
        """The largest code."""
        return self._power(1) - 1 if self._is_signed() else self._power(0) - 1

    @property
    def qmin(self) -> Float[Array, ""]:
        """The smallest code."""
        if not self._is_signed():
            return jnp.zeros((), jnp.float32)
        return -self.qmax if self.range is Range.narrow else -self._power(1)

    def _power(self, less: int) -> Float[Array, ""]:
        """2^(bits - less), exact (a shift; exp2 of an integer need not be)."""
        bits = jnp.asarray(self.bits, jnp.int32)
        return jnp.left_shift(jnp.ones_like(bits), bits - less).astype(jnp.float32)

    def _is_signed(self) -> bool:
        if self.signed is None:
            raise ValueError("signed=null is decided by calibration; use spec.with_sign(...) or set signed=true|false.")
        return self.signed

    def with_sign(self, has_negative: bool) -> "QuantSpec":
        """This spec with an open `signed` closed: signed where the data has values below zero."""
        if self.signed is not None or not self.symmetric:
            return dataclasses.replace(self, signed=bool(self.signed))
        return dataclasses.replace(self, signed=has_negative)
