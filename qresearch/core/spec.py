"""The question a quantizer answers: which grid, how finely scaled, rounded how."""

import dataclasses
import enum
from typing import Any

from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.rounding import Rounding


class Granularity(enum.StrEnum):
    """How many elements share one scale, said by the axes that the matrix product sums over (`contract`)."""

    tensor = "tensor"  # one scale
    channel = "channel"  # one scale for every index of the axes that are not contracted
    block = "block"  # one for every `block_size` elements along the last contracted axis


class ScaleFormat(enum.StrEnum):
    """The numbers that a scale can be."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    power_of_two = "power_of_two"  # 2^k, so that scaling is a shift
    e8m0 = "e8m0"  # 2^k in one byte (OCP Microscaling Formats v1.0, 2023); here k = -126..127, normal in float32
    e4m3 = "e4m3"  # one byte, times one float32 for the tensor that maps the largest scale to 448 (NVFP4)


class ScaleRule(enum.StrEnum):
    """How the largest magnitude a of a group becomes a power of two; M is the largest value of the grid and 2^e the
    largest power of two on it.
    """

    floor = "floor"  # 2^(floor(log2 a) - e): may clip (OCP Microscaling Formats v1.0, section 6.3)
    ceil = "ceil"  # 2^ceil(log2(a / M)): clips nothing
    nearest = "nearest"  # 2^round(log2(a / M))
    even = "even"  # as floor, one more where a would round up to 2^(e + 1): overflow-aware


POWERS_OF_TWO = (ScaleFormat.power_of_two, ScaleFormat.e8m0)


@pytree_dataclass
class QuantSpec:
    """A grid and its scaling: x ~ (decode(codes) - zero_point) * scale.

    The numbers of the grid are leaves, so a sweep over bit-widths shares one compiled program; all else is
    structure. `block_size` is the length of a block along the last contracted axis, or a pair of lengths, along
    that axis and along the last axis that is not contracted.

    Raises ValueError for a block size or a scale rule that does not fit.
    """

    grid: Any = leaf()  # a Grid; checking a protocol of properties would compute them
    granularity: Granularity | str = Granularity.tensor
    block_size: int | tuple[int, ...] | None = None
    scale_format: ScaleFormat | str = ScaleFormat.float32
    scale_rule: ScaleRule | str | None = None
    rounding: Rounding | str = Rounding.half_even

    def __post_init__(self):
        choices = {"granularity": Granularity, "scale_format": ScaleFormat, "rounding": Rounding}
        for name, choice in choices.items():
            object.__setattr__(self, name, choice(getattr(self, name)))
        self._check_block()
        if self.scale_rule is not None:
            object.__setattr__(self, "scale_rule", ScaleRule(self.scale_rule))
        if (self.scale_format in POWERS_OF_TWO) != (self.scale_rule is not None):
            raise ValueError(
                f"scale_rule={self.scale_rule} with scale_format={self.scale_format}: power_of_two and e8m0 need a "
                f"rule, one of {[rule.value for rule in ScaleRule]}, and the other formats take none (null)."
            )

        if self.scale_rule in (ScaleRule.floor, ScaleRule.even) and not self.grid.symmetric:
            raise ValueError(
                f"scale_rule={self.scale_rule} is a rule for the largest magnitude, and a grid with a zero point has a "
                "range; use scale_rule=ceil or nearest."
            )

    def _check_block(self) -> None:
        sizes: Any = self.block_size if isinstance(self.block_size, tuple) else (self.block_size,)
        if self.granularity is not Granularity.block:
            if self.block_size is not None:
                raise ValueError(
                    f"block_size={self.block_size} has no meaning for granularity={self.granularity}; "
                    "set granularity=block, or block_size=null."
                )
        elif len(sizes) > 2 or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise ValueError(
                f"block_size={self.block_size}: granularity=block needs block_size >= 1, for example 32, "
                "or two such numbers, for example [32, 16]."
            )

    def with_sign(self, has_negative: bool) -> "QuantSpec":
        """This spec with a grid for data with or without values below zero."""
        return dataclasses.replace(self, grid=self.grid.with_sign(has_negative))
