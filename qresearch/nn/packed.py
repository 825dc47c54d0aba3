"""The occupant that executes: packed integer weights, integer inputs, and products summed in int32.

The input of the layer is rounded to codes, the codes are multiplied with those of the weights, and the sum, exact in
int32, is taken back to float by one factor for each output channel:

    y = scale_input * scale_weight * sum((codes_input - zero_input) * (codes_weight - zero_weight))

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2.2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from qresearch.core.integer_form import check_integer_form, integers, largest_integer
from qresearch.core.integer_product import check_accumulator, integer_product, largest_sum
from qresearch.core.packing import pack, unpack
from qresearch.core.qtensor import QTensor
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer, dimension_numbers
from qresearch.nn.geometry import Geometry
from qresearch.nn.slots import OPERATORS, Slot, contracted_axes, slots


class Codes(nnx.Variable):
    """Packed codes."""


class PackedTensor(nnx.Module):
    """A QTensor whose codes are packed into bytes."""

    def __init__(self, q: QTensor):
        codes = np.asarray(q.codes)
        self.shape, self.bits = codes.shape, int(q.spec.grid.bits)
        self.signed = bool(np.asarray(q.spec.grid.encode(q.spec.grid.low)) < 0)
        self.words = Codes(jax.device_put(pack(codes, self.bits)))
        self.scale = Codes(q.scale)
        self.zero_point = nnx.data(None if q.zero_point is None else Codes(q.zero_point))
        self.spec = nnx.data(q.spec)

    def qtensor(self) -> QTensor:
        codes = unpack(self.words[...], self.bits, self.shape, signed=self.signed)
        zero_point = None if self.zero_point is None else self.zero_point[...]
        return QTensor(codes, self.scale[...], zero_point, self.spec)


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


def pack_model(model: nnx.Module, layers: Mapping[str, Geometry]) -> nnx.Module:
    """A copy of a quantized model whose quantized layers compute with integers; layers without a quantizer stay float.

    Raises ValueError, with the layer and the way out, for a layer that has no integer form: an input or a weight that
    stays float, a grid of unequal steps, a zero point that is no integer, blocks, values that are changed after they
    are rounded, and sums that int32 may not hold.
    """
    model = nnx.clone(model)
    for path, slot in slots(model).items():
        if isinstance(slot.occupant, FakeQuant):
            slot.fill(_packed(path, slot, slot.occupant, layers[path]))
    return model


def _packed(path: str, slot: Slot, occupant: FakeQuant, g: Geometry) -> Packed:
    if slot.is_embedding or occupant.weight is None or occupant.act is None:
        side = "is an embedding, which multiplies nothing" if slot.is_embedding else "has a float side"
        raise ValueError(
            f"Layer {path!r} {side}: it has no integer form. Quantize its weight and its input, or keep it float by a "
            "rule, for example +rules={apart:{match:'" + path + "',float:true}} before the others."
        )
    sides = ((occupant.act, g.lhs_shape, g.lhs_axes), (occupant.weight, g.rhs_shape, g.rhs_axes))
    for name, (quantizer, shape, contract) in zip(("input", "weight"), sides, strict=True):
        check_integer_form(quantizer.spec, f"The {name} of layer {path!r}")
        if not ends_with_rounding(quantizer, shape, contract):
            raise ValueError(
                f"The {name} of layer {path!r} has no integer form: {type(quantizer.quantizer).__name__} changes "
                "values after it has rounded them. Use another quantizer, or keep the layer float by a rule."
            )
    act, weight = (largest_integer(quantizer.spec) for quantizer, *_ in sides)
    terms = math.prod(g.rhs_shape[axis] for axis in g.rhs_axes)
    check_accumulator(terms, act, weight, f"Layer {path!r}")
    q = occupant.weight.quantize(slot.weight[...], g.rhs_axes)
    largest = largest_sum(np.asarray(integers(q)[0]), g.rhs_axes, act)
    kinds = _kind(act), _kind(weight)
    return Packed(occupant.attribute, PackedTensor(q), occupant.act, kinds=kinds, largest=largest)


def ends_with_rounding(quantizer: TensorQuantizer, shape: Sequence[int], contract: Sequence[int]) -> bool:
    """Whether the quantizer returns what it has rounded as it is, so that its codes tell all."""

    def values(x, rounded):
        return quantizer._apply(x, contract, lambda *_: rounded)

    tensor = jax.ShapeDtypeStruct(tuple(shape), "float32")
    jaxpr = jax.make_jaxpr(values)(tensor, tensor).jaxpr
    return jaxpr.outvars[0] is jaxpr.invars[1]


def _kind(largest: int) -> str:
    """The smallest integer type for magnitudes up to `largest`."""
    return "int8" if largest <= 127 else "int16" if largest <= 32767 else "int32"


def _kept(scale: Array, contract: Sequence[int]) -> Array:
    """A scale without the axes that were summed."""
    return scale.reshape([size for axis, size in enumerate(scale.shape) if axis not in contract])
