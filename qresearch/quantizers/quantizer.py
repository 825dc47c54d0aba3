"""What a quantizer is: a rule for the scale, with numbers (`qparams`) of its own or none."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float

from qresearch.core.spec import QuantSpec
from qresearch.observers.observer import Observer, Statistic

QParams = dict[str, Float[Array, "..."]]


@runtime_checkable
class FakeQuantize(Protocol):
    """`fake_quantize` with its spec and estimator bound."""

    def __call__(
        self, x: Float[Array, "..."], scale: Float[Array, "..."], zero_point: Float[Array, "..."] | None
    ) -> Float[Array, "..."]: ...


@runtime_checkable
class Quantizer(Protocol):
    """A rule that quantizes a tensor each time it is used."""

    learned: ClassVar[bool]  # whether the qparams have a gradient
    stored: ClassVar[bool]  # whether a scale is stored with the model, so that it counts in its size
    transforms: ClassVar[bool]  # whether it changes the values, and not their scale alone, before or after rounding

    observes: ClassVar[bool]  # whether the scale that its observer finds is used

    @property
    def observer(self) -> Observer: ...

    def check(self, spec: QuantSpec) -> None:
        """Raise ValueError where its assumptions do not hold for the grid."""
        ...

    def init(self, statistic: Statistic, spec: QuantSpec) -> QParams:
        """The qparams to start from, given the observer's statistic of the tensor."""
        ...

    def apply(
        self,
        x: Float[Array, "..."],
        qparams: QParams,
        fake_quantize: FakeQuantize,
        *,
        contract: Sequence[int],
        spec: QuantSpec,
        samples: int = 1,
    ) -> Float[Array, "..."]:
        """`x` quantized, by one call of `fake_quantize(values, scale, zero_point)`; differentiable where the rule is
        learned. An activation holds `samples` samples.
        """
        ...
