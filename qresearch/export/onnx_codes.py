"""Which numbers an ONNX file holds: the codes of inputs and weights in its types.

The gain of a channel goes into its scale, and its sign into the codes: -(q - z) = q' - z', where q' = low + high - q
and z' = low + high - z; without a zero point q' = -q, unless the grid does not have it.
"""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from qresearch.core.qtensor import QTensor
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.export.onnx_writer import Codes
from qresearch.graph.forms import Form
from qresearch.graph.nodes import Layer
from qresearch.grids.minifloat import MiniFloat, Special

FLOATS = {
    (4, 3, Special.fn): ml_dtypes.float8_e4m3fn,
    (5, 2, Special.ieee): ml_dtypes.float8_e5m2,
    (4, 3, Special.fnuz): ml_dtypes.float8_e4m3fnuz,
    (5, 2, Special.fnuz): ml_dtypes.float8_e5m2fnuz,
}
TWO_BITS = tuple(map(np.dtype, (ml_dtypes.int2, ml_dtypes.uint2)))
SMALL = (*TWO_BITS, *map(np.dtype, (ml_dtypes.int4, ml_dtypes.uint4)))
WHOLE = tuple(map(np.dtype, ("int8", "uint8", "int16", "uint16")))
HOLDS = (
    "ONNX has integers of up to 16 bits, one apart and with a whole zero point, and the floats e4m3fn, e5m2, e4m3fnuz "
    "and e5m2fnuz, with a scale for a tensor, a channel or a block along one axis; inputs are rounded half to even"
)
WAY_OUT = "Choose such a format, keep the layer float by a rule, or export a packed file, which holds every grid."


class Weight(NamedTuple):
    """x ~ (codes - zero_point) * scale, one pair for all, for each index of `axis`, or for each `block` along it."""

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None
    block: int | None


def not_held(name: str, spec: QuantSpec, reason: str = "") -> ValueError:
    return ValueError(
        f"{name} has the grid {spec.grid.describe()}{reason}, which ONNX does not hold. {HOLDS}. {WAY_OUT}"
    )


def input_codes(layer: Layer, *, unsigned: bool) -> Codes:
    """How the input of a quantized layer lies in the file, a byte always `unsigned` or as the grid is."""
    assert layer.act is not None
    (spec, scale, zero_point), name = layer.act, f"The input of layer {layer.name!r}"
    grid = spec.grid
    check_grid(spec, name)
    if spec.rounding is not Rounding.half_even:
        raise not_held(name, spec, f" with rounding={spec.rounding}")
    if (kind := float_kind(grid)) is not None:
        return Codes(kind, float(scale), saturate=grid.saturate)
    if int(grid.count) != int(grid.high) - int(grid.low) + 1:
        raise not_held(name, spec)
    return form_codes(Form(float(scale), int(zero_point), int(grid.low), int(grid.high)), name, unsigned=unsigned)


def form_codes(form: Form, name: str, *, unsigned: bool) -> Codes:
    """How the integers of a form lie in the file.

    Raises ValueError for a form of more than 16 bits.
    """
    shift = 128 if unsigned and -128 <= form.low < 0 and form.high <= 127 else 0
    low, high = form.low + shift, form.high + shift
    order = WHOLE if low < 0 else (WHOLE[1], WHOLE[3])
    kind = next((kind for kind in order if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), None)
    if kind is None:
        raise ValueError(
            f"{name} has integers from {form.low} to {form.high}, and ONNX has activations of 16 bits at most; use "
            "export.between=int8 or float32."
        )
    return Codes(kind, form.scale, form.zero_point + shift, low, high)


def check_grid(spec: QuantSpec, name: str) -> None:
    """Raise ValueError where no type of ONNX has the grid of the tensor called `name`."""
    grid = spec.grid
    if float_kind(grid) is not None:
        return
    if not grid.uniform or float(grid.low) % 1 or not (grid.symmetric or grid.zero_point == "integer"):
        raise not_held(name, spec)


def float_kind(grid: Any) -> np.dtype | None:
    """The type of 8-bit floats that has the numbers of the grid."""
    if not isinstance(grid, MiniFloat):
        return None
    found = FLOATS.get((int(grid.exponent), int(grid.mantissa), Special(grid.special)))
    return None if found is None else np.dtype(found)


def weight_codes(layer: Layer, spatial: int, *, in_bytes: bool) -> Weight:
    """The quantized weight of a layer in the layout of ONNX: (output, input, spatial ...), moving over `spatial` axes.

    Raises ValueError for a grid or scales that ONNX does not hold.
    """
    q, name = layer.codes, f"The weight of layer {layer.name!r}"
    check_grid(q.spec, name)
    if len(_cut_axes(q.codes.shape, q.scale.shape)) > 1:
        raise not_held(name, q.spec, f" in blocks along two axes (block_size={q.spec.block_size})")
    codes, scale, zero = _with_gain(q, layer.gain)
    kind = float_kind(q.spec.grid) or _whole_kind(q.spec.grid, in_bytes)
    codes, scale, zero = (layout(layer, each, spatial) for each in (codes, scale, zero))
    axis, block, scale, zero = _placed(codes.shape, scale, zero)
    return Weight(codes.astype(kind), scale.astype(np.float32), zero.astype(kind), axis, block)


def _with_gain(q: QTensor, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, scale, zero point) of the weight times the gain; a gain of 0 leaves the code of zero alone."""
    codes, scale = np.asarray(q.spec.grid.decode(q.codes)), np.asarray(q.scale)
    zero = np.zeros_like(scale) if q.zero_point is None else np.asarray(q.zero_point)
    if (gain == 1).all():
        return codes, scale, zero
    scale, zero = (np.repeat(each, len(gain) // each.shape[-1], axis=-1) for each in (scale, zero))
    low, high = float(q.spec.grid.low), float(q.spec.grid.high)
    negated = -codes[..., gain < 0]
    fits = q.zero_point is None and low <= negated.min(initial=high) and negated.max(initial=low) <= high
    codes, zero = (np.where(gain < 0, (0 if fits else low + high) - each, each) for each in (codes, zero))
    zeros = np.broadcast_to(_spread(zero, codes.shape), codes.shape)
    return np.where(gain == 0, zeros, codes), scale * np.where(gain == 0, 1, np.abs(gain)), zero


def _whole_kind(grid: Any, in_bytes: bool) -> np.dtype:
    """The smallest type that holds every code of the grid."""
    low, high, kinds = int(grid.low), int(grid.high), WHOLE if in_bytes else (*SMALL, *WHOLE)
    return next(kind for kind in kinds if ml_dtypes.iinfo(kind).min <= low and high <= ml_dtypes.iinfo(kind).max)


def _cut_axes(shape: tuple[int, ...], groups: tuple[int, ...]) -> list[int]:
    """The axes along which several elements share one of several scales."""
    return [axis for axis, (size, group) in enumerate(zip(shape, groups, strict=True)) if 1 < group < size]


def _spread(numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of groups, repeated for each element along the axes that they cut."""
    for axis in _cut_axes(shape, numbers.shape):
        numbers = np.repeat(numbers, shape[axis] // numbers.shape[axis], axis)
    return numbers


def layout(layer: Layer, numbers: np.ndarray, spatial: int) -> np.ndarray:
    """What goes with the axes of the weight of a layer, in their order in ONNX."""
    if layer.window is not None:
        return np.transpose(numbers, (spatial + 1, spatial, *range(spatial)))
    return numbers.T.reshape(*numbers.T.shape, *[1] * spatial)


def _placed(shape: tuple[int, ...], scale: np.ndarray, zero: np.ndarray) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(axis, block, scale, zero point) as DequantizeLinear takes them."""
    many = [axis for axis, size in enumerate(scale.shape) if size > 1]
    if not many:
        return None, None, scale.reshape(()), zero.reshape(())
    if len(many) == 1 and scale.size == shape[many[0]]:
        return many[0], None, scale.reshape(-1), zero.reshape(-1)
    shared = [axis for axis, size in enumerate(scale.shape) if size < shape[axis]]
    axis = next(iter(_cut_axes(shape, scale.shape) or shared), 0)
    full = tuple(scale.shape[axis] if at == axis else size for at, size in enumerate(shape))
    return axis, shape[axis] // scale.shape[axis], np.broadcast_to(scale, full), np.broadcast_to(zero, full)
