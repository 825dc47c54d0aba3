"""From a simulated model to one that computes with integers: fill the slots with Packed."""

import math
from collections.abc import Mapping

import numpy as np
from flax import nnx

from qresearch.core.integer_form import check_integer_form, integer_range, integers, smallest_kind
from qresearch.core.integer_product import check_accumulator, largest_sum
from qresearch.core.packed_tensor import pack_tensor
from qresearch.core.spec import QuantSpec
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.geometry import Geometry
from qresearch.nn.packed import Packed
from qresearch.nn.slots import Slot, slots


def pack_model(model: nnx.Module, layers: Mapping[str, Geometry]) -> nnx.Module:
    """A copy of a quantized model whose quantized layers compute with integers; layers without a quantizer stay float.

    Raises ValueError, with the layer and the way out, for a layer that has no integer form; see `check_packable`. One
    more reason is seen here alone: a quantizer that changes values after it has rounded them.
    """
    model = nnx.clone(model)
    for path, slot in slots(model).items():
        if isinstance(slot.occupant, FakeQuant):
            slot.fill(_packed(path, slot, slot.occupant, layers[path]))
    return model


def check_packable(path: str, act: QuantSpec | None, weight: QuantSpec | None, g: Geometry) -> None:
    """Raise ValueError where the layer `path` has no integer form: an input or a weight that stays float, a grid of
    unequal steps, a zero point that is no integer, blocks, and sums that int32 may not hold.
    """
    if act is None or weight is None or 0 in g.lhs_shape:
        side = "is an embedding, which multiplies nothing" if 0 in g.lhs_shape else "has a float side"
        raise ValueError(
            f"Layer {path!r} {side}: it has no integer form. Quantize its weight and its input, or keep it float by a "
            f"rule with match={path} and float=true, before the rule that matches it now."
        )
    for name, spec in (("input", act), ("weight", weight)):
        check_integer_form(spec, f"The {name} of layer {path!r}")
    terms = math.prod(g.rhs_shape[axis] for axis in g.rhs_axes)
    check_accumulator(terms, _magnitude(act), _magnitude(weight), f"Layer {path!r}")


def _packed(path: str, slot: Slot, occupant: FakeQuant, g: Geometry) -> Packed:
    act, weight = occupant.act, occupant.weight
    check_packable(path, act and act.spec, weight and weight.spec, g)
    assert act is not None and weight is not None  # or it has been said
    sides = (("input", act, g.lhs_shape, g.lhs_axes), ("weight", weight, g.rhs_shape, g.rhs_axes))
    for name, quantizer, shape, contract in sides:
        quantizer.check_ends_with_rounding(shape, contract, f"The {name} of layer {path!r} has no integer form")
    q = weight.quantize(slot.weight[...], g.rhs_axes)
    largest = largest_sum(np.asarray(integers(q)[0]), g.rhs_axes, _magnitude(act.spec))
    kinds = smallest_kind(*integer_range(act.spec)), smallest_kind(*integer_range(weight.spec))
    return Packed(occupant.attribute, pack_tensor(q), act, kinds=kinds, largest=largest)


def _magnitude(spec: QuantSpec) -> int:
    return max(map(abs, integer_range(spec)))
