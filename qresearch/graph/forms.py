"""Which integers stand for each tensor of a graph: x ~ (q - zero_point) * scale, low <= q <= high.

A quantized layer says how its input is rounded. What lies between the layers (the two sides of an addition, what a mean
is taken of, the output) has no scale of its own in the simulation, and gets one here:

    int32   one scale, a power of two, for all such tensors, so fine that their sums just stay within int32: no range
            is measured, nothing is clipped, and additions are exact
    int8    as mobile runtimes do: 8 bits with a zero point for each, from the range that calibration saw, and biases
            that are whole numbers of products
"""

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from qresearch.core.integer_form import check_integer_form, integers
from qresearch.core.qtensor import QTensor, dequantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Relu

WIDE_LIMIT = 2**29  # of the integers of a wide tensor: two of them can be added, and rounded once more


class Between(enum.StrEnum):
    """What the values between the layers are."""

    float32 = "float32"  # floats, as in the simulation; any network
    int32 = "int32"
    int8 = "int8"


class Form(NamedTuple):
    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def largest(self) -> int:
        """The largest magnitude of q - zero_point."""
        return max(self.high - self.zero_point, self.zero_point - self.low)


def check_form(spec: QuantSpec, name: str) -> None:
    """Raise ValueError where the tensor called `name` is not rounded to the nearest of consecutive integers."""
    check_integer_form(spec, name)
    grid = spec.grid
    consecutive = float(grid.low) % 1 == 0 and int(grid.count) == int(grid.high) - int(grid.low) + 1
    if not consecutive or spec.rounding is not Rounding.half_even:
        reason = f"rounding={spec.rounding}" if consecutive else f"the grid {grid.describe()}"
        raise ValueError(
            f"{name} has {reason}: integers are rounded to the nearest of consecutive ones, ties to even. Use format "
            "int and rounding=half_even, or export.between=float32."
        )


def input_form(layer: Layer) -> Form:
    """The form of the input of a quantized layer. Raises ValueError where it is not rounded to integers."""
    assert layer.act is not None
    spec, scale, zero_point = layer.act
    check_form(spec, f"The input of layer {layer.name!r}")
    return Form(float(scale), int(zero_point), int(spec.grid.low), int(spec.grid.high))


def wide_forms(graph: Graph) -> dict[str, Form]:
    """The form of every tensor, int32 between the layers.

    The input has none where a float layer alone takes it.
    """
    forms = _demanded(graph, shared=False)
    bounds = _bounds(graph, forms)
    largest = max([bounds[node.name] for node in graph.nodes if node.name not in forms], default=1.0)
    scale = 2.0 ** math.ceil(math.log2(max(largest, 1e-30) / WIDE_LIMIT))
    wide = Form(scale, 0, -WIDE_LIMIT, WIDE_LIMIT)
    return forms | {node.name: wide for node in graph.nodes if node.name not in forms}


def narrow_forms(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Form]:
    """The form of every tensor, int8 between the layers; `ranges` holds the lowest and the highest value of each.

    The input has none where a float layer alone takes it.
    """
    forms = _demanded(graph, shared=True)
    for node in graph.nodes:
        if node.name in forms:
            continue
        if not isinstance(node, (Layer, Add, Mean, Relu)) and node.inputs[0] in forms:
            forms[node.name] = forms[node.inputs[0]]  # it only moves values about
            continue
        after = graph.consumers(node.name)
        clipped = after[0].name if len(after) == 1 and isinstance(after[0], Relu) else node.name
        forms[node.name] = forms.get(clipped) or between_form(*ranges[clipped])
    return forms


def whole_biases(graph: Graph) -> Graph:
    """The graph with the biases of its quantized layers rounded to whole products of input and weight: the int32
    numbers that mobile runtimes add. At few bits a product is large, and what is rounded away shows.
    """
    return dataclasses.replace(graph, nodes=tuple(_with_whole_bias(node) for node in graph.nodes))


def _with_whole_bias(node: Any) -> Any:
    if not isinstance(node, Layer) or not node.on_integers:
        return node
    unit = product_unit(node)
    return dataclasses.replace(node, bias=np.float32(np.round(node.bias / unit) * unit))


def product_unit(layer: Layer) -> np.ndarray:
    """What one in the accumulator of a quantized layer stands for, for each channel. Where a gain is 0 the accumulator
    is, and its unit is that of a gain of 1.

    Raises ValueError for a weight without integers.
    """
    check_integer_form(layer.codes.spec, f"The weight of layer {layer.name!r}")
    _, scale = integers(layer.codes)
    gain = np.where(layer.gain == 0, 1.0, np.abs(np.float64(layer.gain)))
    return np.asarray(scale, np.float64).reshape(-1) * input_form(layer).scale * gain


def between_form(low: float, high: float) -> Form:
    """8 bits with a zero point from low to high; zero is always among the values."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return Form(scale, int(np.clip(np.round(-128 - low / scale), -128, 127)), -128, 127)


def _demanded(graph: Graph, *, shared: bool) -> dict[str, Form]:
    """The forms that follow from those of the layers' inputs, from the output backwards.

    A tensor takes the form of what follows; where several things follow, all have to agree, unless it is `shared` by
    those that do not say, additions and means.
    """
    forms: dict[str, Form] = {}
    for name in [node.name for node in reversed(graph.nodes)] + [INPUT]:
        demands = [_demand(node, forms) for node in graph.consumers(name)]
        known = [form for form in demands if form is not None]
        if known and (shared or name == INPUT or (len(known) == len(demands) and len(set(known)) == 1)):
            forms[name] = known[0]
    return forms


def _demand(consumer: Any, forms: Mapping[str, Form]) -> Form | None:
    if isinstance(consumer, Layer):
        return None if consumer.act is None else input_form(consumer)
    return None if isinstance(consumer, (Add, Mean)) else forms.get(consumer.name)


def _bounds(graph: Graph, forms: Mapping[str, Form]) -> dict[str, float]:
    """The largest magnitude that each tensor can have: from those of the layers' inputs, by the weights.

    Raises ValueError where the input has no form, and so no bound.
    """
    if INPUT not in forms:
        raise ValueError(
            "The network's input goes into a float layer, and so nothing bounds it; quantize the first layer, or use "
            "export.between=int8 or float32."
        )
    bounds = {name: form.largest * form.scale for name, form in forms.items()}
    for node in graph.nodes:
        if node.name not in bounds:
            into = [bounds[name] for name in node.inputs]
            bounds[node.name] = _layer_bound(node, *into) if isinstance(node, Layer) else sum(into)
    return bounds


def _layer_bound(layer: Layer, bound: float) -> float:
    if layer.act is not None:
        form = input_form(layer)
        bound = form.largest * form.scale
    sums = np.abs(float_weight(layer).astype(np.float64)).reshape(-1, layer.channels).sum(axis=0)
    return float(np.max(sums * bound * np.abs(layer.gain) + np.abs(layer.bias)))


def float_weight(layer: Layer) -> np.ndarray:
    """The weight as the simulation multiplies it."""
    with jax.ensure_compile_time_eval():  # numbers, inside of a compiled program too
        return np.asarray(dequantize(layer.weight)) if isinstance(layer.weight, QTensor) else layer.weight
