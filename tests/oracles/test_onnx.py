"""ONNX's QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear, as its reference evaluator computes them.

Both add the zero point to what was rounded. What differs by convention:

- ONNX divides by the scale, qresearch multiplies by its reciprocal: next to a tie a code may differ by one.
- DynamicQuantizeLinear of zeros has the scale 1/255, qresearch 1.
- Float6 and float4 have no code for NaN: ONNX makes it -0; in qresearch NaN stays NaN, and its code means nothing.
- Beyond the range of e4m3fn, without saturation, ONNX gives NaN the sign of the value; NaN has no sign in qresearch.
- With a zero point ONNX turns -0 of float4 into +0; grids of floats have no zero point in qresearch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import round_to_grid
from qresearch.core.qtensor import QTensor, dequantize
from qresearch.core.spec import QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.observers.minmax import MinMax

INTEGERS = ("*int[2481]*",)  # 2, 4, 8 and 16 bits
FLOATS = ("e4m3fn_*", "e5m2_*", "e4m3fnuz_*", "e5m2fnuz_*", "e3m2_*", "e2m3_*", "e2m1_*")
# Codes of floats that mean NaN, or -0, and differ by convention.
LEFT_OUT = {
    "e3m2_cast_saturate1": 1,
    "e2m3_cast_saturate1": 1,
    "e2m1_cast_saturate1": 1,
    "e2m1_special_zero": 2,
    "e4m3fn_cast_saturate0": 6,
}
dequantized = jax.jit(dequantize)


def spread(case, array):
    """A scale or zero point with two axes, as qresearch takes it: one, one for each index of an axis, or of a block."""
    if array.ndim == 2:
        return array
    shape = [1, 1]
    if array.ndim:
        shape[case.axis] = -1
    return array.reshape(shape)


def repeated(case, array):
    """A scale or zero point for every element."""
    array = spread(case, array)
    return np.kron(array, np.ones([size // group for size, group in zip(case.x.shape, array.shape, strict=True)]))


def layout(case):
    """Options of a spec. Codes come from a given scale, whose shape alone says what shares an entry."""
    return {"granularity": "block", "block_size": case.block_size} if case.block_size else {"granularity": "tensor"}


def integer_spec(case):
    kind = ZeroPoint.integer if hasattr(case, "zero_point") else ZeroPoint.none
    return QuantSpec(Integer(int(case.type.split("int")[1]), kind, not case.type.startswith("u")), **layout(case))


def zero_points(case):
    return spread(case, case.zero_point.astype(np.float32)) if hasattr(case, "zero_point") else None


@pytest.mark.golden("onnx", "*int*_zero", "*int*_plain")
def test_integers_where_the_scale_is_a_power_of_two(case, quantized):
    """Every quotient is exact, so that all codes are equal, ties included."""
    codes, y = quantized(case.x, spread(case, case.scale), zero_points(case), integer_spec(case))
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


def test_a_zero_point_is_added_after_the_rounding(golden, odd_ties):
    """These values take another code by round(x / scale + zero point): equality above is the proof of the order."""
    count = 0
    for name, case in golden("onnx").items():
        if "int" in name and name.endswith("_zero"):
            grid, z = integer_spec(case).grid, repeated(case, case.zero_point.astype(np.float32))
            v = case.x / repeated(case, case.scale)
            differ = np.clip(np.rint(v + z), float(grid.low), float(grid.high)) != case.codes
            assert np.all(odd_ties(v, z)[differ])
            count += differ.sum()
    assert count == 147


@pytest.mark.golden("onnx", "*int8_tensor_random", "int8_tensor_division")
def test_integers_of_any_scale(case, quantized, differing):
    """In the case called division every value lies so near a tie that the product with the reciprocal crosses it."""
    zero_point = zero_points(case)
    codes, y = quantized(case.x, spread(case, case.scale), zero_point, integer_spec(case))
    v = case.x.astype(np.float64) / case.scale
    assert differing(codes, case.codes, v) == (32 if case.name.endswith("division") else 0)
    np.testing.assert_array_equal(y[codes == case.codes], case.y[codes == case.codes])


@pytest.mark.golden("onnx", *INTEGERS)
def test_dequantized_integers(case):
    zero_point = None if zero_points(case) is None else jnp.asarray(zero_points(case))
    q = QTensor(jnp.asarray(case.codes), jnp.asarray(spread(case, case.scale)), zero_point, integer_spec(case))
    np.testing.assert_array_equal(dequantized(q), case.y)


def test_dequantized_int32(golden):
    case = golden("onnx")["int32_dequantize"]
    q = QTensor(jnp.asarray(case.codes), jnp.asarray(spread(case, case.scale)), None, QuantSpec(Integer(16)))
    np.testing.assert_array_equal(dequantized(q), case.y)


@pytest.mark.golden("onnx", "dynamic_*")
def test_dynamic(case, resolved, quantized):
    spec = QuantSpec(Integer(8, ZeroPoint.integer, signed=False))
    scale, zero_point = resolved(MinMax(), case.x, (0,), spec)
    if case.name == "dynamic_zeros":
        assert case.scale == np.float32(1 / 255) and scale == 1
    else:
        assert scale == case.scale
    assert zero_point == case.zero_point
    codes, y = quantized(case.x, scale, zero_point, spec)
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.mark.golden("onnx", *FLOATS)
def test_floats(case, minifloat, quantized):
    """Every value of a type, every tie and what lies beyond, saturating or not; infinity saturates too."""
    spec = QuantSpec(minifloat(case.type, case.saturate == 1), **layout(case))
    codes, y = quantized(case.x, spread(case, case.scale), None, spec)
    same = np.ones(case.x.shape, bool)
    if case.type in ("e3m2", "e2m3", "e2m1"):
        same = ~np.isnan(case.x)
        ours = round_to_grid(jnp.asarray(case.x), jnp.asarray(spread(case, case.scale)), None, spec)
        assert np.all(np.isnan(ours)[~same]) and np.all(case.y[~same] == 0)
    np.testing.assert_array_equal(y[same], case.y[same])
    if case.type == "e2m1" and case.has_zero_point:
        same &= ~(np.signbit(case.x) & (case.x == 0))
    if case.name == "e4m3fn_cast_saturate0":
        same &= ~(np.isnan(case.y) & (case.codes == 0xFF))
    assert np.sum(~same) == LEFT_OUT.get(case.name, 0)
    np.testing.assert_array_equal(codes[same], case.codes[same])


@pytest.mark.golden("onnx", *FLOATS)
def test_dequantized_floats(case, minifloat):
    spec = QuantSpec(minifloat(case.type), **layout(case))
    q = QTensor(jnp.asarray(case.codes), jnp.asarray(spread(case, case.scale)), None, spec)
    np.testing.assert_array_equal(dequantized(q), case.y)
