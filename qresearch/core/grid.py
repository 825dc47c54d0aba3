"""What a grid is: the values that a code can stand for, in units of the scale.

Grids live in `qresearch/grids/`, one family a file.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from qresearch.core.pytree import WholeNumber
from qresearch.core.rounding import Rounding

Values = Float[Array, "..."]


@runtime_checkable
class Grid(Protocol):
    """A frozen dataclass that is a pytree; its numbers (bits, levels) may be swept without a new compilation."""

    @property
    def bits(self) -> WholeNumber:
        """Bits in which a code is stored."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether a scale alone places it; False where a zero point is needed too."""
        ...

    @property
    def uniform(self) -> bool:
        """Whether all neighbours are equally far apart."""
        ...

    @property
    def low(self) -> Float[Array, ""]:
        """The smallest value."""
        ...

    @property
    def high(self) -> Float[Array, ""]:
        """The largest value."""
        ...

    @property
    def reach(self) -> Float[Array, ""]:
        """The value to which the largest magnitude of a tensor is mapped by a scale that clips nothing."""
        ...

    @property
    def top_step(self) -> Float[Array, ""]:
        """The step of the grid at its upper end: what rounds up by it from the largest value has left the grid."""
        ...

    @property
    def count(self) -> Any:
        """How many different values it has."""
        ...

    def describe(self) -> str:
        """Its name, for audits: "int4", "e4m3fn", "nf4"."""
        ...

    def with_sign(self, has_negative: bool) -> "Grid":
        """This grid for data with or without values below zero; itself, where that leaves no choice."""
        ...

    def round(self, v: Values, rounding: Rounding, noise: Values | None) -> Values:
        """The value of the grid for each `v`; beyond the ends, the end. NaN stays NaN."""
        ...

    def encode(self, values: Values) -> Integer[Array, "..."]:
        """The codes of values that lie on the grid."""
        ...

    def decode(self, codes: Integer[Array, "..."]) -> Values:
        """The values of codes."""
        ...


def clip(v: Values, low: Values, high: Values) -> Values:
    """`v` within low..high (which broadcast), NaN kept: two selects, faster on XLA:CPU than minimum and maximum."""
    return by_range(v, v, low, high, outside=(low, high))


def by_range(v: Values, inside: Any, low: Any, high: Any, *, outside: tuple[Any, Any]) -> Values | Bool[Array, "..."]:
    """`inside` where low <= v <= high, else the first or second of `outside`."""
    return jnp.where(v < low, outside[0], jnp.where(v > high, outside[1], inside))
