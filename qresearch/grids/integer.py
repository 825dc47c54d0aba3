"""Integers of 1 to 16 bits, symmetric or with a zero point.

    symmetric, m = 2^(b-1) - 1:  narrow -m..m,   full and half_step -m-1..m
    unsigned, or with a zero point and full range:  2^b codes

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper", 2018,
arXiv:1806.08342; Jacob et al., CVPR 2018, arXiv:1712.05877, for the zero point.
"""

import dataclasses
import enum

import jax.numpy as jnp

from qresearch.core.grid import clip
from qresearch.core.pytree import WholeNumber, leaf, pytree_dataclass
from qresearch.core.rounding import round_to_whole

LARGEST_BITS = 16


class Range(enum.StrEnum):
    """Which codes are used and where the largest magnitude lands. These conventions change numbers at low bits.

    For a signed symmetric grid of b bits, with m = 2^(b-1) - 1:
    """

    narrow = "narrow"  # codes -m..m, the largest magnitude maps to m
    full = "full"  # codes -m-1..m, the largest magnitude maps to m
    half_step = "half_step"  # codes -m-1..m, the largest magnitude maps to m + 1/2 and is clipped to m


class ZeroPoint(enum.StrEnum):
    """What is added to x / scale: a whole number after rounding, any other before."""

    none = "none"
    integer = "integer"  # a code: 0.0 is on the grid
    float = "float"  # any number: the ends of the range are on the grid, 0.0 need not be


@pytree_dataclass
class Integer:
    """The integers of `bits` bits.

    `signed=None` leaves the sign open: weights are signed, and calibration makes an activation unsigned where
    it sees no value below zero.

    Raises ValueError for bits outside 1..16, and for one bit where the grid would have no positive code.
    """

    bits: WholeNumber = leaf(8)
    zero_point: ZeroPoint = ZeroPoint.none
    signed: bool | None = True
    range: Range = Range.full

    def __post_init__(self):
        object.__setattr__(self, "zero_point", ZeroPoint(self.zero_point))
        object.__setattr__(self, "range", Range(self.range))
        if isinstance(self.bits, (bool, float, str)) or self.bits is None:
            raise ValueError(f"bits={self.bits!r} is not an integer; give a whole number from 1 to {LARGEST_BITS}.")
        if not isinstance(self.bits, int):
            return
        if not 1 <= self.bits <= LARGEST_BITS:
            raise ValueError(f"bits={self.bits} is outside 1..{LARGEST_BITS}, the widths of integer grids.")
        if self.bits == 1 and self.symmetric and self.signed is not False:
            raise ValueError(
                "bits=1 on a signed symmetric integer grid leaves no positive code; use bits >= 2, format=binary, "
                "signed=false or zero_point=integer."
            )
        if self.bits == 1 and self.signed and self.range == Range.narrow:
            raise ValueError(
                "bits=1 with range=narrow on a signed grid leaves the code 0 alone; use range=full or signed=false."
            )

    @property
    def symmetric(self):
        return self.zero_point is ZeroPoint.none

    @property
    def uniform(self):
        return True

    @property
    def high(self):
        return self._power(1) - 1 if self._is_signed() else self._power(0) - 1

    @property
    def low(self):
        if not self._is_signed():
            return jnp.zeros((), jnp.float32)
        return -self.high if self.range is Range.narrow else -self._power(1)

    @property
    def reach(self):
        return self.high + 0.5 if self.range is Range.half_step else self.high

    @property
    def top_step(self):
        return jnp.ones((), jnp.float32)

    @property
    def count(self):
        return (self.high - self.low + 1).astype(jnp.int32)

    def describe(self):
        sign = {True: "int", False: "uint", None: "(u)int"}[self.signed]
        convention = "" if self.range is Range.full else f" {self.range}"
        return f"{sign}{int(self.bits)}{convention}{'' if self.symmetric else f' zero point {self.zero_point}'}"

    def with_sign(self, has_negative):
        """An open sign closed; with a zero point, codes are unsigned unless said otherwise."""
        if self.signed is not None:
            return self
        return dataclasses.replace(self, signed=has_negative if self.symmetric else False)

    def round(self, v, rounding, noise):
        return round_to_whole(clip(v, self.low, self.high), rounding, noise)

    def encode(self, values):
        if not isinstance(self.bits, int):
            return values.astype(jnp.int32)
        if self._is_signed():
            return values.astype(jnp.int8 if self.bits <= 8 else jnp.int16)
        return values.astype(jnp.uint8 if self.bits <= 8 else jnp.uint16)

    def decode(self, codes):
        return codes.astype(jnp.float32)

    def _power(self, less: int):
        """2^(bits - less), exact (a shift; exp2 of an integer need not be)."""
        bits = jnp.asarray(self.bits, jnp.int32)
        return jnp.left_shift(jnp.ones_like(bits), bits - less).astype(jnp.float32)

    def _is_signed(self) -> bool:
        if self.signed is None:
            raise ValueError("signed=null is decided by calibration; use with_sign(...) or set signed=true|false.")
        return self.signed
