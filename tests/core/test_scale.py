"""From a range to a scale and a zero point: the formulas of every convention, and what holds for any range."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.scale import represent, scale_from_magnitude, scale_from_range
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special

STE = ClippedStraightThrough()
SPECS = [
    QuantSpec(Integer(3, zero_point, signed, convention))
    for zero_point, signed, convention in itertools.product((ZeroPoint.none, ZeroPoint.integer), (True, False), Range)
]


def name(spec):
    return spec.grid.describe() + (f" {spec.grid.range}" if spec.grid.signed is False else "")


def resolved(low, high, spec):
    scale, zero_point = scale_from_range(jnp.array([low], jnp.float32), jnp.array([high], jnp.float32), spec)
    return float(scale[0]), None if zero_point is None else float(zero_point[0])


@pytest.mark.parametrize(
    ("bits", "convention", "expected"),
    [
        (2, Range.narrow, 2.4 / 1),
        (3, Range.narrow, 2.4 / 3),
        (3, Range.full, 2.4 / 3),
        (3, Range.half_step, 2.4 / 3.5),
        (8, Range.half_step, 2.4 / 127.5),
    ],
)
def test_symmetric(bits, convention, expected):
    scale, zero_point = resolved(-2.4, 1.0, QuantSpec(Integer(bits, range=convention)))
    assert scale == pytest.approx(expected, rel=1e-6) and zero_point is None
    assert resolved(-1.0, 2.4, QuantSpec(Integer(bits, range=convention))) == (scale, None)


def test_symmetric_unsigned_looks_at_the_upper_end_alone():
    for high, convention in ((1.4, Range.narrow), (1.4, Range.full), (1.5, Range.half_step)):
        spec = QuantSpec(Integer(3, signed=False, range=convention))
        assert resolved(-9.0, high, spec) == (pytest.approx(0.2), None)


@pytest.mark.parametrize(
    ("low", "high", "signed", "convention", "scale", "zero_point"),
    [
        (-1.0, 6.0, False, Range.narrow, 1.0, 1),  # codes 0..7 stand for -1..6
        (-1.0, 6.0, True, Range.full, 1.0, -3),  # codes -4..3
        (-1.0, 5.0, True, Range.narrow, 1.0, -2),  # codes -3..3
        # Half a step over each end: low - 1/2 + 1 = 1/2, half to even.
        (-1.0, 7.0, False, Range.half_step, 1.0, 0),
        (2.0, 7.0, False, Range.narrow, 1.0, 0),  # the range is widened to hold 0
        (-7.0, -2.0, False, Range.narrow, 1.0, 7),
        (-1.3, 5.7, False, Range.narrow, 1.0, 1),  # the zero point is nudged from 1.3 to an integer
    ],
)
def test_affine(low, high, signed, convention, scale, zero_point):
    spec = QuantSpec(Integer(3, zero_point=ZeroPoint.integer, signed=signed, range=convention))
    assert resolved(low, high, spec) == (pytest.approx(scale), zero_point)


@pytest.mark.parametrize("spec", SPECS, ids=name)
@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32), st.integers(2, 10))
def test_any_range_is_covered_and_zero_is_exact(spec, a, b, bits):
    low, high = min(a, b), max(a, b)
    spec = QuantSpec(dataclasses.replace(spec.grid, bits=jnp.int32(bits)))
    scale, zero_point = scale_from_range(jnp.array([low], jnp.float32), jnp.array([high], jnp.float32), spec)
    assert scale[0] > 0 and jnp.isfinite(scale[0])
    rounded = fake_quantize(jnp.array([0.0, low, high], jnp.float32), scale, zero_point, spec, STE)
    assert rounded[0] == 0.0
    ends = np.array([low, high]) if spec.grid.signed or not spec.grid.symmetric else np.maximum([low, high], 0.0)
    # Half a step, and half a step more where the convention clips the largest value by as much.
    reach = 1.0 if spec.grid.range is Range.half_step and not spec.grid.symmetric else 0.5
    assert np.all(np.abs(rounded[1:] - ends) <= (reach + 1e-3) * scale[0])


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize("width", [0.0, 1e-45, 1e-39])
def test_a_range_of_no_width_gets_scale_one(spec, width):
    scale, zero_point = resolved(-width, width, spec)
    assert scale == 1.0
    zero_point = None if zero_point is None else jnp.array([zero_point])
    assert fake_quantize(jnp.zeros(1), jnp.array([scale]), zero_point, spec, STE)[0] == 0.0


def test_not_a_number_is_not_hidden():
    for spec in SPECS:
        assert np.isnan(resolved(float("nan"), 1.0, spec)[0]) or (not spec.grid.signed and spec.grid.symmetric)
        assert np.isnan(resolved(-1.0, float("nan"), spec)[0])


@pytest.mark.parametrize("rule", ["floor", "even", "ceil", "nearest"])
@pytest.mark.parametrize(
    "grid", [Integer(4), Integer(8), MidRise(4), Binary(), MiniFloat(2, 1, Special.finite), MiniFloat(4, 3)]
)
def test_a_rule_means_the_same_for_a_finished_scale(grid, rule):
    """Of a scale that an observer or a gradient has set, the largest magnitude is the one that it maps to the reach."""
    spec = QuantSpec(grid, scale_format="e8m0", scale_rule=rule)
    largest = jnp.asarray(np.exp2(np.linspace(-6, 6, 301)), jnp.float32)
    by_magnitude = scale_from_magnitude(largest, spec)
    finished = represent(largest / grid.reach, spec)
    assert np.mean(np.asarray(by_magnitude == finished)) > 0.99  # but for those a division has put across a step
    np.testing.assert_array_equal(represent(by_magnitude, spec), by_magnitude)
    assert np.all(np.log2(by_magnitude) == np.round(np.log2(by_magnitude)))


def test_rules_for_magnitudes_are_refused_with_a_zero_point():
    for rule in ("floor", "even"):
        with pytest.raises(ValueError, match=f"scale_rule={rule} is a rule for the largest magnitude"):
            QuantSpec(Integer(8, zero_point=ZeroPoint.integer), scale_format="e8m0", scale_rule=rule)
