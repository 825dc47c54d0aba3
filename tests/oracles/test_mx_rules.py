"""Torchao's shared exponents by every rule, whole blocks of the microscaling formats, and NVFP4.

What differs by convention:

- A group of zeros, and one so small that absmax over the largest element is subnormal in float32, has scale 1 in
  qresearch and the smallest code, 2^-127, in torchao; infinity and NaN leave no scale, where torchao has codes.
- Torchao's rceil takes log2 in float32, so that a quotient one float above a power of two passes for it in 18 of 1810
  magnitudes; scale_rule=ceil is exact.
- Torchao's ceil rounds log2 of absmax up and takes off the exponent of the largest element: no rule of qresearch. It is
  scale_rule=ceil or twice that.
- NVFP4: torchao lets no block scale fall below 2^-6 of the tensor's, qresearch below 2^-9; the smallest here that
  belongs to anything but zeros is above both, and a group of zeros has the smallest. Its one-level form, no scale for
  the tensor, is not in qresearch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.scale import scale_from_magnitude
from qresearch.core.spec import QuantSpec
from qresearch.observers.absmax import AbsMax

EXTREMES = 10  # at the end of the magnitudes: zero, tiny, huge, infinity, NaN
RULES = {"floor": "floor", "even": "even", "ceil": "rceil"}  # ours: theirs
BLOCKS = {"granularity": "block", "block_size": 32}
ALL_RULES = pytest.mark.parametrize("rule", RULES)
from_magnitude = jax.jit(scale_from_magnitude)


def exponents(case, minifloat, rule):
    """log2 of the scales of qresearch."""
    spec = QuantSpec(minifloat(case.element), **BLOCKS, scale_format="e8m0", scale_rule=rule)
    scale = np.asarray(from_magnitude(jnp.asarray(case.absmax), spec))
    fraction, exponent = np.frexp(scale)
    finite = np.isfinite(scale)
    assert np.all(fraction[finite] == 0.5)
    return np.where(finite, exponent - 1, 999), spec.grid


@ALL_RULES
@pytest.mark.golden("mx_rules", "exponent_*")
def test_exponents(case, minifloat, rule):
    ours = exponents(case, minifloat, rule)[0][:-EXTREMES]
    theirs = getattr(case, f"exponent_{RULES[rule]}")[:-EXTREMES].astype(int)
    if rule == "ceil":
        assert len(case.log2_rounds) == {"e4m3fn": 5, "e5m2": 4}.get(case.element, 3)
        theirs[case.log2_rounds] += 1
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.golden("mx_rules", "exponent_*")
def test_the_other_ceil(case, minifloat):
    ours = exponents(case, minifloat, "ceil")[0][:-EXTREMES]
    assert {*(case.exponent_ceil[:-EXTREMES] - ours)} == {0, 1}


@ALL_RULES
@pytest.mark.golden("mx_rules", "exponent_*")
def test_extreme_magnitudes(case, minifloat, rule):
    """Zero, 2^-149, 2^-127, 2^-126, 2^-119, 2^-118; 2^127, 3.4e38; infinity and NaN."""
    ours, grid = exponents(case, minifloat, rule)
    ours, absmax = ours[-EXTREMES:], case.absmax[-EXTREMES:].astype(np.float64)
    theirs = getattr(case, f"exponent_{RULES[rule]}")[-EXTREMES:]
    high = float(grid.high)
    quotient = absmax / (high if rule == "ceil" else 2 ** np.floor(np.log2(high)))
    finite, empty = np.isfinite(absmax), quotient < 2.0**-126
    np.testing.assert_array_equal(ours[finite], np.where(empty, 0, theirs)[finite])
    assert np.all(theirs[empty] <= -126) and np.sum(finite & ~empty) == {
        "e4m3fn": 2 if rule == "ceil" else 3,
        "e5m2": 2,
    }.get(case.element, 4)
    assert np.all(ours[~finite] == 999) and np.all(theirs[~finite] >= 113)


def with_ones(case):
    """The scales of torchao with qresearch's for the block of zeros, the first."""
    assert case.scale[0, 0] == np.float32(2.0**-127) and not case.x[0, :32].any()
    scale = case.scale.copy()
    scale[0, 0] = 1
    return scale


@pytest.mark.golden("mx_rules", "block_*_floor", "block_*_even", "block_*_rceil")
def test_blocks(case, minifloat, resolved, quantized):
    rule = next(ours for ours, theirs in RULES.items() if theirs == case.mode)
    spec = QuantSpec(minifloat(case.element), **BLOCKS, scale_format="e8m0", scale_rule=rule)
    scale, _ = resolved(AbsMax(), case.x, (1,), spec)
    np.testing.assert_array_equal(scale, with_ones(case))
    codes, y = quantized(case.x, scale, None, spec)
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.mark.golden("mx_rules", "block_*_ceil")
def test_blocks_of_the_other_ceil(case, minifloat, quantized):
    codes, y = quantized(case.x, with_ones(case), None, QuantSpec(minifloat(case.element), **BLOCKS))
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.fixture
def nvfp4(minifloat):
    return QuantSpec(minifloat("e2m1"), "block", 16, scale_format="e4m3")


@pytest.mark.golden("mx_rules", "nvfp4_two_level")
def test_nvfp4(case, nvfp4, resolved, quantized):
    """Block scales, the scale of the tensor, codes and values: all bits equal."""
    scale, _ = resolved(AbsMax(), case.x, (1,), nvfp4)
    assert not case.x[0, :16].any() and case.scale[0, 0] == 2.0**-6 and scale[0, 0] == case.tensor_scale * 2.0**-9
    assert np.sort(case.scale.ravel())[1] > 2.0**-6  # the clamp of torchao plays no part
    np.testing.assert_array_equal(scale.ravel()[1:], (case.tensor_scale * case.scale).ravel()[1:])
    codes, y = quantized(case.x, scale, None, nvfp4)
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.mark.golden("mx_rules", "nvfp4_two_level")
def test_nvfp4_of_small_values(case, nvfp4, resolved, quantized):
    """2^-10 of the values are 2^-10 of the results, codes unchanged; there is a block of zeros among them."""
    scale, _ = resolved(AbsMax(), case.x / 1024, (1,), nvfp4)
    codes, y = quantized(case.x / 1024, scale, None, nvfp4)
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y / 1024)


@pytest.mark.golden("mx_rules", "nvfp4_one_level")
def test_nvfp4_of_one_level(case, nvfp4, quantized):
    codes, y = quantized(case.x, case.scale, None, QuantSpec(nvfp4.grid, "block", 16))
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)
