"""Qwix's arrays: scales, codes and values of integers, small floats, NF4 and microscaling.

The source of qwix divides by the scale, but XLA makes a product with the reciprocal of it, so that with its scale all
codes and values are equal, ties included. What differs by convention:

- Qwix adds the zero point before the rounding, qresearch after it: of exact ties with an odd zero point the codes are
  one apart. There is none of them here, nor any tie that the sum makes; all codes are equal.
- XLA makes a product of the division of absmax by a constant bound too, where there is more than one scale: the scales
  of qresearch, which divides as IEEE 754 has it, differ from those in the last place for about every third group. The
  bound of range=half_step lies on a tie, between the lowest code and the next, so with its own scales qresearch may
  give the element that sets the scale the one code and qwix the other.
- A scale counts as zero, and becomes 1, below the square root of the smallest normal float32; in qresearch below that
  number itself.
- NF4: of two equally near levels qwix takes the first, qresearch the one of even index (no value here lies halfway).
- NVFP4 of qwix has one level, e4m3(absmax / 6), cut at 448; qresearch has NVIDIA's two, so the scales differ. A group
  of zeros has the scale 1 in qwix, and in qresearch the smallest e4m3 times the scale of the tensor: a 1 might be the
  largest of the scales.
"""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from qresearch.core.scale import scale_from_range
from qresearch.core.spec import QuantSpec
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.nf4 import nf4
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax

ELEMENTS = {
    "float8_e4m3fn": "e4m3fn",
    "float8_e5m2": "e5m2",
    "float4_e2m1fn": "e2m1",
    "mxfp8": "e4m3fn",
    "mxfp4": "e2m1",
    "nvfp4": "e2m1",
}
# For the cases with more than one scale: scales that differ in the last place, all scales, codes that differ with them.
LAST_PLACE = {
    "absmax_channel0_int8": (1, 4, 1),
    "absmax_channel1_int8": (14, 32, 7),
    "absmax_tiled16_int8": (3, 8, 1),
    "absmax_channel0_int4": (2, 4, 2),
    "absmax_channel1_int4": (17, 32, 7),
    "absmax_tiled16_int4": (3, 8, 2),
    "absmax_tiled_both_int4": (2, 4, 2),
    "absmax_tiled16_int2": (3, 8, 2),
    "absmax_tiled16_int3": (1, 8, 1),
    "minmax_tiled16_int8": (2, 8, 0),
    "minmax_tiled16_int4": (4, 8, 0),
    "absmax_tiled16_e4m3fn": (1, 8, 0),
    "absmax_tiled16_e2m1": (3, 8, 0),
    "absmax_tiled16_nf4": (0, 8, 0),
}


@pytest.fixture
def grid_of(minifloat):
    def grid(case):
        if case.qtype == "nf4":
            return nf4()
        if case.qtype in ELEMENTS:
            return minifloat(ELEMENTS[case.qtype])
        affine = hasattr(case, "zero_point")
        bits, convention = int(case.qtype.removeprefix("int")), Range.full if affine else Range.half_step
        return Integer(bits, ZeroPoint.integer if affine else ZeroPoint.none, range=convention)

    return grid


def layout(case):
    """(options of a spec, contracted axes) for the channels and tiles of a case."""
    tiles = {int(axis): size for axis, size in case.tiled_axes.items()}
    if tiles:
        sizes = [tiles[axis] for axis in sorted(tiles, reverse=True)]
        return {"granularity": "block", "block_size": sizes[0] if len(sizes) == 1 else tuple(sizes)}, (1,)
    if case.channelwise_axes:
        return {"granularity": "channel"}, (1 - case.channelwise_axes[0],)
    return {}, (1,)


def zeros_of(case):
    return case.zero_point.astype(np.float32) if hasattr(case, "zero_point") else None


def repeated(array, shape):
    """A scale or zero point for every element of `shape`."""
    return np.kron(array, np.ones([size // group for size, group in zip(shape, array.shape, strict=True)]))


@pytest.mark.golden("qwix", "absmax_*", "fixed_ties_*", "mxfp*", "nvfp4")
def test_symmetric_codes_and_values(case, grid_of, quantized):
    codes, y = quantized(case.x, case.scale, None, QuantSpec(grid_of(case), **layout(case)[0]))
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.mark.golden("qwix", "minmax_*", "fixed_int?")
def test_codes_and_values_with_a_zero_point(case, grid_of, quantized, odd_ties):
    zero_point = zeros_of(case)
    codes, y = quantized(case.x, case.scale, zero_point, QuantSpec(grid_of(case), **layout(case)[0]))
    v = case.x.astype(np.float64) / repeated(case.scale, case.x.shape)
    assert not odd_ties(v, repeated(zero_point, case.x.shape)).any()
    np.testing.assert_array_equal(codes, case.codes)
    np.testing.assert_array_equal(y, case.y)


@pytest.mark.golden("qwix", "absmax_*", "minmax_*")
def test_scales(case, grid_of, resolved, quantized):
    options, contract = layout(case)
    spec = QuantSpec(grid_of(case), **options)
    scale, zero_point = resolved(MinMax() if case.calibration == "minmax" else AbsMax(), case.x, contract, spec)
    places = scale.view(np.int32) - case.scale.view(np.int32)
    assert scale.shape == case.scale.shape and {*places.ravel()} <= {-1, 0}
    np.testing.assert_array_equal(zero_point, zeros_of(case))
    expected = LAST_PLACE.get(case.name, (0, 1, 0))
    assert (np.sum(places != 0), places.size) == expected[:2]
    if case.calibration == "absmax":
        codes, _ = quantized(case.x, scale, None, spec)  # with the scale of qresearch
        differ = codes != case.codes
        magnitude = np.abs(case.x) / repeated(scale, case.x.shape)
        assert np.all(magnitude[differ] > (1 - 2**-22) * np.float32(spec.grid.reach)) and differ.sum() == expected[2]


@pytest.mark.golden("qwix", "fixed_int?")
def test_a_fixed_range_with_a_zero_point(case, grid_of):
    low, high = (jnp.full((1, 1), end, jnp.float32) for end in (-1.25, 3.5))
    scale, zero_point = scale_from_range(low, high, QuantSpec(grid_of(case)))
    np.testing.assert_array_equal(scale, case.scale)
    np.testing.assert_array_equal(zero_point, zeros_of(case))


def test_nf4_table(golden):
    np.testing.assert_array_equal(nf4().levels, golden("qwix")["table_nf4"].y)


@pytest.mark.golden("qwix", "mxfp8", "mxfp4")
def test_microscaling_scales(case, grid_of, resolved):
    spec = QuantSpec(grid_of(case), **layout(case)[0], scale_format="e8m0", scale_rule="ceil")
    np.testing.assert_array_equal(resolved(AbsMax(), case.x, (1,), spec)[0], case.scale)


@pytest.mark.golden("qwix", "nvfp4")
def test_scales_of_two_levels(case, grid_of, resolved):
    """Qwix rounds absmax / 6 to e4m3, qresearch rounds it in units of the largest / 448: both to the last bit."""
    spec = QuantSpec(grid_of(case), **layout(case)[0], scale_format="e4m3")
    scale, _ = resolved(AbsMax(), case.x, (1,), spec)
    exact = np.max(np.abs(case.x).reshape(4, 4, 16), axis=2) / np.float32(6)
    empty, unit = exact == 0, np.max(exact) / np.float32(448)
    np.testing.assert_array_equal(scale, np.where(empty, 2.0**-9, to_e4m3(exact / unit)).astype(np.float32) * unit)
    np.testing.assert_array_equal(case.scale, np.where(empty, 1, to_e4m3(exact)))
    assert np.all(scale != case.scale) and empty.sum() == 2


def to_e4m3(array):
    return array.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
