"""The occupant that executes: packed integer weights, integer inputs, and products summed in int32.

The input of the layer is rounded to codes, the codes are multiplied with those of the weights, and the sum, exact in
int32, is taken back to float by one factor for each output channel:

    y = scale_input * scale_weight * sum((codes_input - zero_input) * (codes_weight - zero_weight))

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2.2.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from qresearch.core.integer_form import integers
from qresearch.core.integer_product import integer_product
from qresearch.core.packed_tensor import PackedTensor
from qresearch.nn.fake_quant import TensorQuantizer, dimension_numbers
from qresearch.nn.slots import OPERATORS, contracted_axes


class Packed(nnx.Module):
    """Stands in a slot; what flax hands it as the weight is not looked at.

    `kinds` are the integer types that hold all inputs and all weights, and `largest` bounds every partial sum; see
    `integer_product`.
    """

    def __init__(
        self, attribute: str, weight: PackedTensor, act: TensorQuantizer, *, kinds: tuple[str, str], largest: int
    ):
        self.attribute, self.kinds, self.largest = attribute, kinds, largest
        self.weight = nnx.data(weight)
        self.act = nnx.data(act)

    def __call__(self, lhs: Float[Array, "..."], rhs: Any, *args: Any, **kwargs: Any) -> Float[Array, "..."]:
        axes = contracted_axes(self.attribute, lhs.ndim, dimension_numbers(self.attribute, args, kwargs))
        a, a_scale = integers(self.act.quantize(lhs, axes[0]))
        w, w_scale = integers(self.weight.qtensor())
        a, w = (values.astype(kind) for values, kind in zip((a, w), self.kinds, strict=True))
        summed = integer_product(OPERATORS[self.attribute], a, w, *args, largest=self.largest, **kwargs)
        if self.attribute == "dot_general":
            a_scale, w_scale = (_kept(scale, axis) for scale, axis in zip((a_scale, w_scale), axes, strict=True))
            scale = jnp.multiply.outer(a_scale, w_scale)
        else:
            scale = a_scale * w_scale
        return summed.astype(jnp.float32) * scale


def _kept(scale: Array, contract: Sequence[int]) -> Array:
    """A scale without the axes that were summed."""
    return scale.reshape([size for axis, size in enumerate(scale.shape) if axis not in contract])
