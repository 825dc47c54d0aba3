"""What a layer algorithm of post-training quantization is: weights and their scale in, codes out."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float

from qresearch.core.qtensor import QTensor
from qresearch.core.spec import QuantSpec


@runtime_checkable
class LayerMethod(Protocol):
    """Chooses the codes of one layer's weights, given the scale."""

    to_nearest: ClassVar[bool]  # whether every weight takes its nearest value, as the quantizer does by itself

    def solve(
        self,
        w: Float[Array, "..."],
        *,
        scale: Float[Array, "..."],
        zero_point: Float[Array, "..."] | None,
        spec: QuantSpec,
        key: Any = None,
    ) -> QTensor:
        """The weights as codes; `scale` has the rank of `w` (see core/granularity.py); `key` is for
        stochastic rounding.
        """
        ...
