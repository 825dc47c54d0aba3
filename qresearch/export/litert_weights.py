"""The numbers of a quantized layer as LiteRT holds them, and what it does not hold.

    weights   int8, int4 or int2 around 0, with a scale for each output channel
    biases    int32, whole numbers of products of input and weight
    inputs    int8 with one scale and a whole zero point

The scale of a channel takes the magnitude of its gain, its codes take the sign. LiteRT's specification of 8-bit
quantization asks for weights from -127, and so does `range=narrow`: kernels for ARM processors without dot products add
two products in 16 bits, which two of -128 times -128 overflow. A weight of -128 is written as it is; the kernels for
x86 take it.
"""

from typing import Any, NamedTuple

import numpy as np

from qresearch.core.integer_form import integers
from qresearch.core.integer_product import check_accumulator, largest_sum
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity
from qresearch.export.litert_values import HIGH, LOW
from qresearch.graph.forms import Form, float_weight, input_form
from qresearch.graph.nodes import Layer

WEIGHTS = (
    "LiteRT holds weights as integers of at most 8 bits around 0, with one scale for the tensor or for each output "
    "channel."
)
INPUTS = "LiteRT holds an input as consecutive integers of at most 8 bits, with one scale and a whole zero point."
FLOAT = "or keep the layer float by a rule."
LARGEST_FACTOR = 256  # of XNNPACK, which does not load a file with another


class Parameters(NamedTuple):
    """A layer's weight in the layout of the graph, the type that holds it, its scales by channel (None: it is float),
    and its bias.
    """

    weight: np.ndarray
    kind: str
    scale: np.ndarray | None
    bias: np.ndarray


def float_parameters(layer: Layer) -> Parameters:
    return Parameters(float_weight(layer) * layer.gain, "FLOAT32", None, layer.bias)


def integer_parameters(layer: Layer, form: Form, out: Form) -> Parameters:
    """The parameters of a layer that goes from one form to another, its weight as int8.

    Raises ValueError for weights that LiteRT does not hold, for sums that int32 does not hold, and for an output whose
    scale is too fine for its kernels.
    """
    _check_weight(layer)
    codes, scale = (np.asarray(part) for part in integers(layer.codes))
    codes = codes * np.sign(layer.gain).astype(np.int32)
    _check_codes(layer, codes)
    gain = np.where(layer.gain == 0, 1.0, np.abs(layer.gain))  # where it is 0 the codes are
    scale = np.float64(scale).reshape(-1) * gain
    unit = scale * form.scale
    bias = np.round(layer.bias / unit)
    largest = largest_sum(codes, tuple(range(codes.ndim - 1)), form.largest)
    check_accumulator(1, 1, largest + int(np.abs(bias).max(initial=0)), f"With its bias, layer {layer.name!r}")
    if (factor := float((unit / out.scale).max())) >= LARGEST_FACTOR:
        raise ValueError(
            f"Layer {layer.name!r}: one product of its integers is {factor:.6g} steps of its output, and LiteRT's "
            f"kernels take less than {LARGEST_FACTOR}. Calibrate with more images, {FLOAT}"
        )
    return Parameters(codes.astype(np.int8), "INT8", scale.astype(np.float32), bias.astype(np.int32))


def smallest_kind(weight: np.ndarray) -> str:
    """The smallest of LiteRT's types that holds the integers."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    return next(kind for kind, end in (("INT2", 2), ("INT4", 8), ("INT8", 128)) if -end <= low and high < end)


def taken_form(layer: Layer) -> Form:
    """The form of the layer's input. Raises ValueError where LiteRT does not hold it."""
    assert layer.act is not None
    spec = layer.act.spec
    grid, way_out = spec.grid, ""
    if not grid.uniform or float(grid.low) % 1 != 0 or int(grid.count) != int(grid.high) - int(grid.low) + 1:
        way_out = "Use format int"
    elif not grid.symmetric and grid.zero_point != "integer":
        way_out = f"Its zero point is a {grid.zero_point}; set zero_point=integer or none"
    elif spec.rounding is not Rounding.half_even:
        way_out = f"It is rounded by rounding={spec.rounding}; set rounding=half_even"
    elif int(grid.count) > HIGH - LOW + 1:
        way_out = "Use 8 bits or fewer"
    if way_out:
        raise _refusal(layer, "input", grid, INPUTS, way_out)
    form = input_form(layer)
    if not form.low <= form.zero_point <= form.high:
        way_out = f"Its zero point {form.zero_point} is not among the codes; let its range hold 0"
        raise _refusal(layer, "input", grid, INPUTS, way_out)
    return form


def _check_weight(layer: Layer) -> None:
    spec, scale, way_out = layer.codes.spec, layer.codes.scale, ""
    if not spec.grid.uniform:
        way_out = "Use format int"
    elif not spec.grid.symmetric:
        way_out = "Set zero_point=none"
    elif spec.granularity is Granularity.block or (scale.size != 1 and scale.shape[-1] != scale.size):
        way_out = f"It has scales of shape {scale.shape}; set granularity=tensor or channel"
    if way_out:
        raise _refusal(layer, "weight", spec.grid, WEIGHTS, way_out)


def _check_codes(layer: Layer, codes: np.ndarray) -> None:
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if low >= LOW and high <= HIGH:
        return
    way_out = f"Its integers reach from {low} to {high}; use fewer bits"
    if high == -LOW and (layer.gain < 0).any():
        way_out = (
            "A channel of negative gain turns its code -128 into 128; set range=narrow, or fold the batch norm that "
            "the gain comes from"
        )
    raise _refusal(layer, "weight", layer.codes.spec.grid, WEIGHTS, way_out)


def _refusal(layer: Layer, side: str, grid: Any, held: str, way_out: str) -> ValueError:
    return ValueError(f"The {side} of layer {layer.name!r} is on the grid {grid.describe()}. {held} {way_out}, {FLOAT}")
