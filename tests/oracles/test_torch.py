"""torch's fake quantization: values, codes and gradients.

Both multiply by the reciprocal of the scale and add an integer zero point to what was rounded (a float one before), so
that all codes and values are equal, ties included. What differs by convention:

- torch masks the gradient by the rounded code, qresearch by the value: from the bound of the grid to half a step beyond
  it, torch passes the gradient and qresearch does not. The gradients of scale and zero point follow.
- The backward pass of torch's learnable form adds the zero point before the rounding, unlike its forward pass: of exact
  ties with an odd zero point it takes another code, one off, for its mask and for the gradient of the scale.
- torch's learnable form rounds and clips the zero point itself; here it is given rounded. Per tensor its backward pass
  takes trunc(zero_point + 1/2), one off where that is not the forward pass's: those cases have no gradients to compare.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.quantizers.learned_scale import scale_gradient

# Of 144 values of a learnable case: codes that its backward pass has otherwise than its forward pass, and gradients
# that it passes or stops otherwise than by the codes of its forward pass. All are exact ties of an odd zero point; none
# in the cases that are not listed.
BACKWARD_TIES = {
    "tensor_int8_zero3.3_ties": (20, 12),
    "tensor_int4_zero1.3_ties": (16, 17),
    "tensor_int4_zero11_ties": (22, 13),
    "tensor_int4_factor": (24, 0),
    "channel0_int8_ties": (19, 9),
    "channel0_uint4_ties": (9, 7),
    "channel0_int2_ties": (9, 8),
    "channel1_int8_ties": (17, 6),
    "channel1_uint4_ties": (11, 13),
    "channel1_int2_ties": (6, 12),
}


def operands(case):
    """(x, scale, zero_point) as qresearch takes them: a scale has the rank of x, a zero point is a float32 code."""
    shape = [1] * case.x.ndim
    if case.axis is not None:
        shape[case.axis] = -1
    zero_point = case.zero_point.astype(np.float32)
    if "learnable" in case.function:
        zero_point = np.clip(np.rint(zero_point), case.quant_min, case.quant_max)
    return tuple(jnp.asarray(array) for array in (case.x, case.scale.reshape(shape), zero_point.reshape(shape)))


def spec_of(case):
    kind = ZeroPoint.float if hasattr(case, "zero_point_kind") else ZeroPoint.integer
    grid = Integer(case.bits, kind, case.signed, Range.narrow if case.narrow else Range.full)
    assert (grid.low, grid.high) == (case.quant_min, case.quant_max)
    return QuantSpec(grid, "tensor" if case.axis is None else "channel")


def position(x, scale, zero_point):
    """x / scale + zero_point in float64."""
    return np.asarray(x, np.float64) / np.asarray(scale) + np.asarray(zero_point)


def check_forward(case, quantized):
    x, scale, zero_point = operands(case)
    spec = spec_of(case)
    codes, y = quantized(x, scale, zero_point, spec)
    np.testing.assert_array_equal(codes, np.rint(case.y / np.asarray(scale) + np.asarray(zero_point)))
    np.testing.assert_array_equal(y, case.y)
    np.testing.assert_array_equal(fake_quantize(x, scale, zero_point, spec, ClippedStraightThrough()), case.y)
    if np.all(zero_point == 0):
        symmetric = QuantSpec(Integer(case.bits, ZeroPoint.none, case.signed, spec.grid.range), spec.granularity)
        np.testing.assert_array_equal(fake_quantize(x, scale, None, symmetric, ClippedStraightThrough()), case.y)


@pytest.mark.golden("torch_fake_quantize", "*")
def test_forward(case, quantized):
    check_forward(case, quantized)


@pytest.mark.golden("torch_learnable", "*")
def test_learnable_forward(case, quantized):
    check_forward(case, quantized)


def test_a_zero_point_is_added_after_the_rounding(golden, odd_ties):
    """These values take another code by round(x / scale + zero point): equality above is the proof of the order."""
    for file, expected in {"torch_fake_quantize": 200, "torch_learnable": 195}.items():
        count = 0
        for case in golden(file).values():
            if hasattr(case, "zero_point_kind"):
                continue
            x, s, z = (np.asarray(operand) for operand in operands(case))
            v = (x * (1 / s)).astype(np.float64)  # the product is that of float32
            before = np.clip(np.rint(v + z), case.quant_min, case.quant_max)
            differ = before != np.rint(case.y / s + z)
            assert np.all(odd_ties(v, z)[differ])
            count += differ.sum()
        assert count == expected


def test_a_reciprocal_is_not_a_division(golden):
    """These values take another code by x / scale: equality here is the proof that qresearch does as torch does."""
    cases = [case for name, case in golden("torch_fake_quantize").items() if "reciprocal" in name]
    for case in cases:
        divided = np.clip(np.rint(case.x / case.scale), case.quant_min, case.quant_max) * case.scale
        assert np.all(divided != case.y)
    assert sum(case.x.size for case in cases) == 168


@pytest.mark.golden("torch_fake_quantize", "tensor_*_ties", "tensor_*_random", "channel*")
def test_gradient_of_the_values(case, regions):
    x, scale, zero_point = operands(case)
    spec = spec_of(case)
    _, pull = jax.vjp(lambda x: fake_quantize(x, scale, zero_point, spec, ClippedStraightThrough()), x)
    (dx,) = pull(jnp.asarray(case.g))
    v, z = position(x, scale, zero_point), np.asarray(zero_point)
    code = np.rint(v) if spec.grid.zero_point is ZeroPoint.float else z + np.rint(v - z)
    inside, band, far = regions(v, case.quant_min, case.quant_max, code=code)
    np.testing.assert_array_equal(dx, np.where(inside, case.g, 0))
    np.testing.assert_array_equal(case.dx, np.where(inside | band, case.g, 0))
    assert min(inside.sum(), far.sum()) >= 25 and 12 <= band.sum() <= 26


@pytest.mark.golden("torch_learnable", "*")
def test_learnable_gradients(case, regions, odd_ties, quantized):
    x, scale, zero_point = operands(case)
    spec = spec_of(case)

    def learnable(x, scale, zero_point):
        scale, zero_point = (scale_gradient(number, jnp.float32(case.grad_factor)) for number in (scale, zero_point))
        return fake_quantize(x, scale, zero_point, spec, ClippedStraightThrough())

    _, pull = jax.vjp(learnable, x, scale, zero_point)
    dx, ds, dz = (np.asarray(gradient) for gradient in pull(jnp.asarray(case.g)))
    v, z = position(x, scale, zero_point), np.asarray(zero_point)
    low, high = case.quant_min, case.quant_max
    inside, band, _ = regions(v, low, high, code=np.rint(v))  # the code of its backward pass
    np.testing.assert_array_equal(dx, np.where(inside, case.g, 0))
    if not case.zero_points_agree:
        assert np.any(case.dx != np.where(inside | band, case.g, 0))
        return
    np.testing.assert_array_equal(case.dx, np.where(inside | band, case.g, 0))
    codes = quantized(x, scale, zero_point, spec)[0].astype(np.float64)  # of both forward passes
    backward = np.clip(np.rint(v), low, high)
    otherwise = regions(v, low, high, code=z + np.rint(v - z))[1] != band
    assert np.all(odd_ties(v - z, z)[(codes != backward) | otherwise])
    assert (np.sum(codes != backward), otherwise.sum()) == BACKWARD_TIES.get(case.name, (0, 0))
    # In the band g (q - z) here and g (q - z - x / s) there; -s g here and 0 there. Each with its own q.
    s = np.asarray(scale, np.float64)
    axes = tuple(axis for axis in range(2) if axis != case.axis)
    g = case.grad_factor * np.where(band, case.g, 0)
    ds_theirs = case.dscale + np.sum(g * case.x / s + case.grad_factor * case.g * (codes - backward), axis=axes)
    dz_theirs = case.dzero_point - np.sum(g * s, axis=axes)
    close(ds, ds_theirs, np.sum(np.abs(case.g * case.x / s), axis=axes))
    close(dz, dz_theirs, np.sum(np.abs(case.g * s), axis=axes))


def close(ours, theirs, terms):
    """Equal to 1e-6 of the sum of the magnitudes of the terms: the order of a sum is free."""
    assert np.all(np.abs(np.ravel(ours) - np.ravel(theirs)) <= 1e-6 * np.ravel(terms))


def test_learnable_cases_whose_zero_points_differ(golden):
    """How many cases have gradients to compare, and how many show torch's other zero point in the backward pass."""
    agree = [case.zero_points_agree for case in golden("torch_learnable").values()]
    assert (sum(agree), len(agree)) == (16, 21)
