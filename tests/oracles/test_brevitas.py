"""Brevitas' quantizers: scales, codes, values and gradients of integers, signs, small floats and microscaling.

Brevitas divides by the scale and qresearch multiplies by its reciprocal: codes may differ next to a tie (none of these
values does). What differs by convention:

- Brevitas adds the zero point before the rounding, qresearch after it: of exact ties with an odd zero point brevitas
  takes the even code, qresearch the odd one. The gradient of the scale follows.
- A group of zeros has scale 1 in qresearch and 1e-10 / largest code in brevitas.
- Without `narrow_range` brevitas maps the largest magnitude to the code 2^(b-1), which does not exist on the positive
  side; range=full maps it to 2^(b-1) - 1.
- Fixed point rounds the largest magnitude up to a power of two, then divides by 2^(b-1); scale_rule=ceil rounds the
  quotient by 2^(b-1) - 1 up, and is twice as large for magnitudes just below a power of two.
- The gradient passes up to half a step beyond the bounds (see test_torch.py).
- Binary and ternary quantizers give the gradient a factor of the scale, since x is not divided by it first, and the
  ternary one gives none to values that become zero.
- MXInt8 has half the step of the OCP format, so that it cuts the upper half of the top octave.
- Its exponent rule "ceil" rounds log2 of the largest magnitude up, before it takes the exponent of the largest element
  off: no rule of qresearch (scale_rule=ceil rounds the quotient by the largest element up).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax

CONTRACT = (1,)  # weights are (outputs, inputs)
BLOCKS = {"granularity": "block", "block_size": 32}
# Exact ties of an odd zero point, and codes of them that differ; 0 in the cases that are not listed.
ODD_TIES = {"bare_tensor_8_signed": (36, 23)}


def integer_spec(case, zero_point=ZeroPoint.none):
    grid = Integer(case.bits, zero_point, case.signed, Range.narrow if case.narrow else Range.full)
    return QuantSpec(grid, granularity(case))


def granularity(case):
    return "tensor" if case.axis is None else "channel"


def matrix(array):
    """A scale or zero point of one number, of one a row, or of one a block, with two axes."""
    return array.reshape(len(array) if array.ndim else 1, -1)


def zero_groups(case):
    return np.max(np.abs(case.x), axis=None if case.axis is None else 1, keepdims=True) == 0


@pytest.fixture
def check_integers(quantized, differing, odd_ties):
    """Fails where codes or values with the scale of brevitas are not equal, but for the ties of an odd zero point;
    returns the codes.
    """

    def check(case, spec, zero_point=None):
        scale = matrix(case.scale)
        codes, y = quantized(case.x, scale, zero_point, spec)
        step = np.broadcast_to(np.repeat(scale, getattr(case, "block", 1), axis=1), case.x.shape)
        v = case.x.astype(np.float64) / step
        z = np.broadcast_to(0.0 if zero_point is None else zero_point, v.shape)
        tie, low, high = odd_ties(v, z), float(spec.grid.low), float(spec.grid.high)
        assert differing(codes[~tie], case.codes[~tie], (v + z)[~tie]) == 0
        np.testing.assert_array_equal(y[~tie], case.y[~tie])
        np.testing.assert_array_equal(codes[tie], np.clip(z + np.rint(v), low, high)[tie])
        np.testing.assert_array_equal(case.codes[tie], np.clip(np.rint(v + z), low, high)[tie])
        for q, values in ((codes, y), (case.codes, case.y)):
            np.testing.assert_array_equal(values[tie], ((q - z) * step)[tie])
        assert (tie.sum(), np.sum(codes != case.codes)) == ODD_TIES.get(case.name, (0, 0))
        return codes

    return check


@pytest.mark.golden("brevitas_int", "weight_tensor_?", "weight_tensor_?_ties", "weight_channel_?")
def test_weights(case, resolved, check_integers):
    spec, empty, theirs = integer_spec(case), zero_groups(case), matrix(case.scale)
    scale, _ = resolved(AbsMax(), case.x, CONTRACT, spec)
    np.testing.assert_array_equal(scale, np.where(empty, 1, theirs))
    np.testing.assert_array_equal(theirs[empty], np.float32(1e-10) / np.float32(spec.grid.high))
    assert empty.sum() == (case.axis == 0)
    check_integers(case, spec)


@pytest.mark.golden("brevitas_int", "weight_tensor_4_wide")
def test_weights_of_the_wide_range(case, resolved, check_integers):
    spec, largest = integer_spec(case), np.max(np.abs(case.x))
    assert resolved(AbsMax(), case.x, CONTRACT, spec)[0] == largest / np.float32(7)
    assert case.scale == largest / np.float32(8)
    check_integers(case, spec)


@pytest.mark.golden("brevitas_int", "weight_fixed_point_8")
def test_fixed_point_weights(case, resolved, check_integers):
    """Equal but for magnitudes above 127/128 of a power of two: 3.96875 is that of 4."""
    spec = QuantSpec(integer_spec(case).grid, scale_format="power_of_two", scale_rule="ceil")
    for largest, factor in ((4.0, 2), (3.97, 2), (3.96875, 1), (2.1, 1), (np.max(np.abs(case.x)), 1)):
        scale, _ = resolved(AbsMax(), np.full((1, 2), largest, np.float32), CONTRACT, spec)
        theirs = 2 ** np.ceil(np.log2(largest)) / 128
        assert scale == factor * theirs
    assert case.scale == theirs
    check_integers(case, integer_spec(case))


@pytest.mark.golden("brevitas_int", "weight_shifted_*")
def test_weights_with_a_zero_point(case, resolved, check_integers):
    spec, theirs = integer_spec(case, ZeroPoint.integer), matrix(case.scale)
    scale, zero_point = resolved(MinMax(), case.x, CONTRACT, spec)
    np.testing.assert_array_equal(scale, np.where(zero_groups(case), 1, theirs))
    np.testing.assert_array_equal(zero_point, matrix(getattr(case, "zero_point", np.zeros((), np.float32))))
    check_integers(case, spec, zero_point)


@pytest.mark.golden("brevitas_int", "weight_binary", "bare_binary", "weight_ternary", "bare_ternary")
def test_signs(case, quantized):
    binary = "binary" in case.name
    codes, y = quantized(case.x, matrix(case.scale), None, QuantSpec(Binary() if binary else Ternary()))
    np.testing.assert_array_equal(y, case.y)
    np.testing.assert_array_equal(2 * codes.astype(int) - 1 if binary else codes, case.codes)
    assert np.sum((case.x == 0) & np.signbit(case.x)) == 1  # the sign of -0 is +1 for both


@pytest.mark.golden("brevitas_int", "bare_binary", "bare_ternary")
def test_gradient_of_signs(case):
    spec = QuantSpec(Binary() if "binary" in case.name else Ternary())
    scale = jnp.asarray(matrix(case.scale))
    _, pull = jax.vjp(lambda x: fake_quantize(x, scale, None, spec, StraightThrough()), jnp.asarray(case.x))
    np.testing.assert_array_equal(pull(jnp.asarray(case.g))[0], case.g)
    np.testing.assert_array_equal(case.dx, np.where(case.codes == 0, 0, case.g * case.scale))


@pytest.mark.golden("brevitas_int", "act_*")
def test_activations(case, regions, check_integers):
    spec, scale = integer_spec(case), jnp.asarray(matrix(case.scale))
    check_integers(case, spec)
    _, pull = jax.vjp(lambda x: fake_quantize(x, scale, None, spec, ClippedStraightThrough()), jnp.asarray(case.x))
    inside, band, _ = regions(case.x.astype(np.float64) / case.scale, float(spec.grid.low), float(spec.grid.high))
    np.testing.assert_array_equal(pull(jnp.asarray(case.g))[0], np.where(inside, case.g, 0))
    np.testing.assert_array_equal(case.dx, np.where(inside | band, case.g, 0))
    assert band.sum() == {"act_uint8": 18, "act_int4": 19}[case.name]


@pytest.mark.golden("brevitas_int", "bare_tensor_*", "bare_channel_*")
def test_all_gradients(case, regions, check_integers):
    spec, s, z = integer_spec(case, ZeroPoint.integer), matrix(case.scale), matrix(case.zero_point)
    codes = check_integers(case, spec, z)
    operands = (jnp.asarray(array) for array in (case.x, s, z))
    _, pull = jax.vjp(lambda *xsz: fake_quantize(*xsz, spec, ClippedStraightThrough()), *operands)
    dx, ds, dz = (np.asarray(gradient) for gradient in pull(jnp.asarray(case.g)))
    inside, band, far = regions(case.x.astype(np.float64) / s + z, case.quant_min, case.quant_max)
    np.testing.assert_array_equal(dx, np.where(inside, case.g, 0))
    np.testing.assert_array_equal(case.dx, np.where(inside | band, case.g, 0))
    # In the band g (q - z) here and g (q - z - x / s) there; -s g here and 0 there. Each with its own q; all these sums
    # are exact.
    axes, g = (0, 1) if case.axis is None else (1,), np.where(band, case.g, 0)
    more = np.sum(g * case.x / s + case.g * (codes - case.codes.astype(int)), axis=axes)
    np.testing.assert_array_equal(ds.ravel(), case.dscale.ravel() + more.ravel())
    np.testing.assert_array_equal(dz.ravel(), case.dzero_point.ravel() - np.sum(g * s, axis=axes).ravel())
    assert 12 <= band.sum() <= 20 and min(inside.sum(), far.sum()) >= 30


@pytest.fixture
def check_floats(quantized):
    """Fails where values or bit patterns with the scale of brevitas are not equal."""

    def check(case, spec):
        codes, y = quantized(case.x, matrix(case.scale), None, spec)
        np.testing.assert_array_equal(y, case.y)
        if hasattr(case, "codes"):
            np.testing.assert_array_equal(codes, case.codes)

    return check


@pytest.mark.golden("brevitas_float", "ocp_tensor_*", "ocp_channel_*", "fnuz_tensor_*")
def test_floats(case, minifloat, resolved, check_floats):
    spec, empty = QuantSpec(minifloat(case.element), granularity(case)), zero_groups(case)
    scale, _ = resolved(AbsMax(), case.x, CONTRACT, spec)
    np.testing.assert_array_equal(scale, np.where(empty, 1, matrix(case.scale)))
    assert empty.sum() == (case.axis == 0)
    check_floats(case, spec)


@pytest.mark.golden("brevitas_float", "ocp_cast_*", "fnuz_cast_*")
def test_every_value_of_a_float_and_every_tie(case, minifloat, check_floats):
    """Also beyond the largest value: there it stays, or becomes infinity or NaN in the cases called open."""
    check_floats(case, QuantSpec(minifloat(case.element, case.saturating)))
    beyond = case.y[~np.isfinite(case.y)]
    assert (beyond.size == 0) == case.saturating
    assert np.all(np.isnan(beyond) if case.element == "e4m3fn" else np.isinf(beyond))


@pytest.mark.golden("brevitas_float", "plain_*")
def test_plain_floats_use_all_codes(case, resolved, check_floats):
    """Brevitas' formats without a name are special=finite: the largest values are 480 and 114688, not 448 and 57344."""
    spec = QuantSpec(MiniFloat(case.exponent_bits, case.mantissa_bits, Special.finite))
    assert spec.grid.high == {"plain_tensor_e4m3": 480, "plain_tensor_e5m2": 114688}[case.name]
    np.testing.assert_array_equal(resolved(AbsMax(), case.x, CONTRACT, spec)[0], matrix(case.scale))
    check_floats(case, spec)


@pytest.mark.golden("brevitas_mx", "floor_e*")
def test_microscaling_floats(case, minifloat, resolved, check_floats):
    spec = QuantSpec(minifloat(case.element), **BLOCKS, scale_format="e8m0", scale_rule="floor")
    scale, _ = resolved(AbsMax(), case.x, CONTRACT, spec)
    empty = case.scale < 1e-10  # and no power of two, which the format of `spec` would not hold
    assert empty.sum() == 1
    np.testing.assert_array_equal(scale, np.where(empty, 1, case.scale))
    check_floats(case, QuantSpec(spec.grid, **BLOCKS))


@pytest.mark.golden("brevitas_mx", "ceil_e*")
def test_microscaling_floats_of_the_other_ceil(case, minifloat, resolved, check_floats):
    """Twice the scale of scale_rule=ceil for 4 and 3 of 7 blocks: where the largest magnitude is no power of two and
    its mantissa not above that of the largest element.
    """
    spec = QuantSpec(minifloat(case.element), **BLOCKS, scale_format="e8m0", scale_rule="ceil")
    scale, _ = resolved(AbsMax(), case.x, CONTRACT, spec)
    assert scale[0, 0] == 1  # a block of zeros
    ratio = (case.scale / scale).ravel()[1:]
    assert {*ratio} == {1, 2} and np.sum(ratio == 2) == {"e4m3fn": 4, "e2m1": 3}[case.element]
    check_floats(case, QuantSpec(spec.grid, **BLOCKS))


@pytest.mark.golden("brevitas_mx", "floor_int8", "ceil_int8")
def test_microscaling_integers(case, resolved, check_integers):
    """The scale of the OCP format, 2^(floor(log2 a) - 6), is twice that of brevitas."""
    check_integers(case, QuantSpec(Integer(8), **BLOCKS))
    clipped = np.sum(np.abs(case.x / np.repeat(case.scale, 32, axis=1)) > 128)
    assert (clipped > 0) == (case.exponent_rule == "floor")
    spec = QuantSpec(Integer(8), **BLOCKS, scale_format="e8m0", scale_rule="floor")
    scale, _ = resolved(AbsMax(), case.x, CONTRACT, spec)
    if case.exponent_rule == "floor":
        np.testing.assert_array_equal(scale, np.where(case.scale < 1e-10, 1, 2 * case.scale))
