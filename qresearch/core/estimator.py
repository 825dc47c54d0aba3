"""What a gradient estimator is: a replacement for the derivative of rounding, which is zero almost everywhere.

Estimators live in `qresearch/estimators/`, one a file.
"""

from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float

from qresearch.core.spec import QuantSpec


class Rounded(NamedTuple):
    """One rounding as the backward pass sees it, everything in units of the scale."""

    v: Float[Array, "..."]  # what was rounded
    q: Float[Array, "..."]  # what it became
    inside: Bool[Array, "..."]  # whether v lies within the ends of the grid, the ends included
    low: Float[Array, ""]  # the ends of the grid
    high: Float[Array, ""]


@runtime_checkable
class Estimator(Protocol):
    """A frozen dataclass that is a pytree; its numbers may be swept."""

    clips: ClassVar[bool]  # whether nothing passes beyond the ends of the grid; `pull` need not see to it
    scheduled: ClassVar[bool]  # whether it changes over the training, by `progress`

    def check(self, spec: QuantSpec) -> None:
        """Raise ValueError where its assumptions do not hold for the grid."""
        ...

    def pull(self, g: Float[Array, "..."], rounded: Rounded, progress: Any) -> Float[Array, "..."]:
        """The gradient of `rounded.v`, given that of `rounded.q`.

        `progress` goes from 0 to 1 over the training. A positive factor of `g` must be a factor of the answer.
        """
        ...
