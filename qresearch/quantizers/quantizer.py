"""What a quantizer is: a rule for the scale, with numbers (`qparams`) of its own or none."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float

from qresearch.core.spec import QuantSpec
from qresearch.observers.observer import Observer, Statistic

QParams = dict[str, Float[Array, "..."]]
ScaleAndZero = tuple[Float[Array, "..."], Float[Array, "..."] | None]


@runtime_checkable
class Quantizer(Protocol):
    """A rule that gives the scale of a tensor each time it is quantized."""

    learned: ClassVar[bool]  # whether the qparams have a gradient
    stored: ClassVar[bool]  # whether a scale is stored with the model, so that it counts in its size

    @property
    def observer(self) -> Observer: ...

    def init(self, statistic: Statistic, spec: QuantSpec) -> QParams:
        """The qparams to start from, given the observer's statistic of the tensor."""
        ...

    def scale(
        self,
        x: Float[Array, "..."],
        qparams: QParams,
        *,
        contract: Sequence[int],
        spec: QuantSpec,
        samples: int = 1,
    ) -> ScaleAndZero:
        """Scale and zero point for `x`, differentiable where the rule is learned; an activation holds
        `samples` samples.
        """
        ...
