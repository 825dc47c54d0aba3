"""What a layer algorithm of post-training quantization is: weights and their scale in, codes out."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from qresearch.core.qtensor import QTensor
from qresearch.core.spec import QuantSpec


@runtime_checkable
class LayerMethod(Protocol):
    """Chooses the codes of one layer's weights, given the scale."""

    def solve(
        self,
        w: Float[Array, "..."],
        *,
        scale: Float[Array, "..."],
        zero_point: Float[Array, "..."] | None,
        spec: QuantSpec,
    ) -> QTensor:
        """The weights as codes; `scale` has the rank of `w` (see core/granularity.py)."""
        ...
