"""The graph on integers: from the codes of the input to those of the output, with no float between them.

    accumulator = sum((codes - zero_input) * (codes_weight - zero_weight)) * 2^up + bias,    in int32
    codes       = the accumulator in the form of what comes out (see `rescale.py`)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2. Differs from the paper: the bits that the weights leave free in the accumulator go to a
bias that is no whole number of products; where biases are rounded to whole ones (`whole_biases`), `up` is 0. A layer
that a rule keeps float takes its input from integers and rounds its output to them.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qresearch.core.fixed_point import ShiftRounding, addition, mean_multiplier
from qresearch.core.integer_form import parts_of_a_step, smallest_kind
from qresearch.core.integer_product import EXACT_IN_FLOAT32, check_accumulator, largest_sum
from qresearch.core.packed_tensor import pack_codes, pack_tensor
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.qtensor import QTensor
from qresearch.graph.forms import Form, input_form, product_unit
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Relu
from qresearch.graph.rescale import Requantize, rescale
from qresearch.graph.simulate import form_codes, form_values
from qresearch.graph.steps import (
    Average,
    AverageOfCodes,
    Clip,
    Codes,
    Convert,
    FloatProduct,
    Move,
    Product,
    Sum,
    SumInFloat,
    SumOfCodes,
)

LARGEST_SUM = 2**30  # of anything that is summed: int32 holds it, and a rounding of it
BYTE = 2**9  # below it lie codes of 8 bits with their zero point taken off


@pytree_dataclass
class Node:
    """A step, the names of what it takes, and the conversion of its input, which for a layer is to its own form."""

    name: str
    inputs: tuple[str, ...]
    is_layer: bool
    enter: Convert | None = leaf()
    step: Any = leaf()

    def __call__(self, codes: list[Any], given: Codes | None, reached: dict[str, Codes]) -> Codes:
        if self.enter is not None:
            codes = [self.enter(codes[0])]
        if self.is_layer:
            reached.setdefault(self.name, codes[0])
            codes = codes if given is None else [given.astype(codes[0].dtype)]
        return self.step(*codes)


@pytree_dataclass
class IntegerNetwork:
    """The steps in order, and the forms of the input (None: it stays float) and of the output."""

    input: Form | None
    output: Form
    nodes: tuple[Node, ...] = leaf()

    def __call__(
        self, codes: Any, given: Mapping[str, Codes] | None = None
    ) -> tuple[Codes, dict[str, Codes]]:  # fmt: skip
        """The codes of the output, and those that reach each quantized layer, which takes those `given` for it in their
        place.
        """
        values, reached = {INPUT: codes}, {}
        for node in self.nodes:
            own = given.get(node.name) if given is not None and node.is_layer else None
            if own is not None and node.enter is None:  # the tensor itself is what is given: to all that take it
                reached[node.name] = values[node.inputs[0]]
                values[node.inputs[0]] = own.astype(values[node.inputs[0]].dtype)
            values[node.name] = node([values[name] for name in node.inputs], own, reached)
        return values[self.nodes[-1].name], reached

    def encode(self, x: Float[Array, "batch ..."]) -> Any:
        """What the network takes for the floats `x`."""
        return x if self.input is None else form_codes(x, self.input).astype(kind_of(self.input))

    def decode(self, codes: Codes) -> Float[Array, "batch ..."]:
        """The floats that its output stands for."""
        return form_values(codes, self.output)


def integer_network(graph: Graph, forms: Mapping[str, Form], by: Requantize) -> IntegerNetwork:
    """The graph on integers, with these forms between its nodes.

    Raises ValueError, with the layer and the way out, for weights without an integer form, for sums that int32 may not
    hold, and for scales that are too far apart.
    """
    nodes = []
    for node in graph.nodes:
        sources, out = [forms.get(name) for name in node.inputs], forms[node.name]
        enter = None
        is_integer = isinstance(node, Layer) and node.on_integers
        if is_integer and (taken := input_form(node)) != sources[0]:
            enter, sources = convert(node.name, sources[0], taken, by), [taken]
        try:
            step = _step(node, sources, out, by)
        except ValueError as error:
            raise ValueError(f"{node.name!r}: {error}") from error
        nodes.append(Node(node.name, node.inputs, is_integer, enter, step))
    return IntegerNetwork(forms.get(INPUT), forms[graph.output], tuple(nodes))


def convert(name: str, source: Form | None, to: Form, by: Requantize) -> Convert | None:
    if source is None:
        raise ValueError(f"Layer {name!r} takes what stays float beside a float layer; quantize both, or neither.")
    return None if source == to else Convert(source, rescale(source.scale, to, by))


def kind_of(form: Form) -> str:
    return smallest_kind(form.low, form.high)


def _step(node: Any, sources: list[Any], out: Form, by: Requantize) -> Any:
    match node:
        case Layer() if not node.on_integers:
            weight = pack_tensor(node.weight) if isinstance(node.weight, QTensor) else node.weight
            return FloatProduct(node.window, sources[0], out, node.act, weight, node.gain, node.bias)
        case Layer():
            return _product(node, sources[0], out, by)
        case Add():
            return _sum(sources, out, by)
        case Mean():
            return _mean(node, sources[0], out, by)
        case _:
            step = Clip(sources[0]) if isinstance(node, Relu) else Move(node, sources[0])
            return step if sources[0] == out else Then(step, Convert(sources[0], rescale(sources[0].scale, out, by)))


@pytree_dataclass
class Then:
    """One step after another."""

    first: Any = leaf()
    second: Any = leaf()

    def __call__(self, *codes: Codes) -> Codes:
        return self.second(self.first(*codes))


def _product(layer: Layer, form: Form, out: Form, by: Requantize) -> Product:
    unit, (slope, offset) = product_unit(layer), _line(layer)
    weight = pack_codes(layer.codes)
    w = np.asarray(layer.codes.codes, np.int64) * slope + offset
    check_accumulator(w[..., 0].size, form.largest, int(np.abs(w).max(initial=0)), f"Layer {layer.name!r}")
    largest = largest_sum(w, tuple(range(w.ndim - 1)), form.largest)
    bias = layer.bias.astype(np.float64) / unit
    up = _free_bits(largest, bias, by)
    bias = np.round(bias * 2**up)
    check_accumulator(1, 1, int(np.abs(bias).max(initial=0)) + largest * 2**up, f"With its bias, layer {layer.name!r}")
    kind = smallest_kind(int(w.min(initial=0)), int(w.max(initial=0)))
    numbers = (slope.astype(np.int32), offset.astype(np.int32), bias.astype(np.int32))
    return Product(layer.window, form, up, largest, kind, weight, *numbers, rescale(unit / 2**up, out, by))


def _line(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset) of each channel, with which codes * slope + offset are the integers of the weight, with the sign
    of the channel's gain.
    """
    spec, sign = layer.codes.spec, np.sign(layer.gain).astype(np.int64)
    parts = int(parts_of_a_step(spec.grid))
    codes = np.asarray(spec.grid.encode(jnp.stack([spec.grid.low, spec.grid.high])), np.int64)
    values = np.asarray([float(spec.grid.low) * parts, float(spec.grid.high) * parts], np.int64)
    slope = (values[1] - values[0]) // (codes[1] - codes[0])  # the steps of a grid with integers are equal
    zero = np.zeros(1) if layer.codes.zero_point is None else np.asarray(layer.codes.zero_point).reshape(-1) * parts
    return slope * sign, (values[0] - slope * codes[0] - zero.astype(np.int64)) * sign


def _free_bits(largest: int, bias: np.ndarray, by: Requantize) -> int:
    """By how many bits the accumulator can be shifted up, so that its bias is rounded less; not at all where it is
    whole anyway. Where a float rescales, the sum stays exact in float32.
    """
    if np.allclose(bias, np.round(bias), rtol=1e-6, atol=0):
        return 0
    room = EXACT_IN_FLOAT32 if by is Requantize.float else LARGEST_SUM
    reach = largest + float(np.abs(bias).max(initial=0)) + 1
    return max(0, min(16, int(np.floor(np.log2(room / reach)))))


def _sum(sources: list[Form], out: Form, by: Requantize) -> Any:
    forms = (sources[0], sources[1], out)
    if max(form.largest for form in forms) < BYTE:
        if by is Requantize.float:
            return SumInFloat(forms)
        return SumOfCodes(forms, ShiftRounding(by), addition(sources[0].scale, sources[1].scale, out.scale))
    finest = max(sources, key=lambda form: form.largest)  # the wide one, whose scale the other is brought to
    common = finest._replace(zero_point=0)
    first, second = (convert("addition", form, common, by) for form in sources)
    return Sum(first, second, None if out == common else rescale(common.scale, out, by))


def _mean(node: Mean, form: Form, out: Form, by: Requantize) -> Any:
    if max(form.largest, out.largest) < BYTE and by not in (Requantize.float, Requantize.even):
        factor = mean_multiplier(form.scale / out.scale, node.count)
        return AverageOfCodes(node.axes, node.count, (form, out), ShiftRounding(by), factor)
    bits = max(0, math.ceil(math.log2(form.largest * node.count / LARGEST_SUM)))
    return Average(node.axes, form, bits, rescale(form.scale * 2**bits / node.count, out, by))
