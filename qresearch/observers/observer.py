"""What an observer is: a statistic of a tensor that can be gathered in pieces, and the scale it leads to."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from qresearch.core.spec import QuantSpec

Statistic = Any  # a pytree of arrays


@runtime_checkable
class Observer(Protocol):
    """Statistics of batches combine in any order and grouping to the statistic of all the data."""

    def check(self, spec: QuantSpec) -> None:
        """Raise ValueError where the scale it finds does not fit the grid."""
        ...

    def measure(self, x: Float[Array, "..."], *, contract: Sequence[int], spec: QuantSpec) -> Statistic:
        """The statistic of one tensor whose axes `contract` are summed by the matrix product."""
        ...

    def combine(self, a: Statistic, b: Statistic) -> Statistic:
        """The statistic of the data behind `a` and `b` together."""
        ...

    def resolve(self, statistic: Statistic, spec: QuantSpec) -> tuple[Float[Array, "..."], Float[Array, "..."] | None]:
        """Scale and zero point (None for a symmetric grid)."""
        ...
