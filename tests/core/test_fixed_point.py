"""Fixed-point arithmetic against a loop over Python's integers and fractions, which know no width and no rounding."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qresearch.core.fixed_point import (
    ShiftRounding,
    add,
    addition,
    average_pool,
    mean,
    mean_multiplier,
    multiplier,
    requantize,
)

SMALLEST, LARGEST = -(2**31), 2**31 - 1
DOUBLE, DOUBLE_UPWARDS, SINGLE, EVEN = ShiftRounding
LENGTH = 64  # of the arrays that hypothesis draws: one compilation for all

compiled = jax.jit(requantize, static_argnums=3)
compiled_add = jax.jit(add, static_argnames="rounding")
compiled_mean = jax.jit(mean, static_argnames="rounding")


def upwards(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def away(x: Fraction) -> int:
    return upwards(x) if x >= 0 else -upwards(-x)


def word(x: int) -> int:
    """What int32 makes of a number."""
    return (x - SMALLEST) % 2**32 + SMALLEST


def slow(x, mantissa, shift, rounding) -> int:
    """One number, by the definition."""
    x, mantissa, shift = int(x), int(mantissa), int(shift)
    if rounding in (SINGLE, EVEN):
        exact = x * mantissa * Fraction(2) ** (shift - 31)
        return word(upwards(exact) if rounding is SINGLE else round(exact))
    once = upwards(Fraction(word(x << max(shift, 0)) * mantissa, 2**31))
    return (away if rounding is DOUBLE else upwards)(Fraction(once, 2 ** max(-shift, 0)))


def compare(numbers, rounding):
    x, mantissa, shift = np.array(numbers, np.int32).T
    expected = [slow(*number, rounding=rounding) for number in numbers]
    np.testing.assert_array_equal(compiled(jnp.asarray(x), mantissa, shift, rounding), np.array(expected, np.int32))


int32 = st.integers(SMALLEST, LARGEST) | st.integers(-300, 300) | st.sampled_from([SMALLEST, SMALLEST + 1, LARGEST])
mantissas = st.integers(2**30, LARGEST) | st.sampled_from([0, 2**30, 2**30 + 1, 3 * 2**29, LARGEST])
triples = st.tuples(int32, mantissas, st.integers(-31, 30))


@pytest.mark.parametrize("rounding", ShiftRounding)
@given(st.lists(triples, min_size=LENGTH, max_size=LENGTH))
def test_any_number_against_a_loop(rounding, numbers):
    compare(numbers, rounding)


@pytest.mark.parametrize("rounding", ShiftRounding)
def test_ten_thousand_numbers_against_a_loop(rounding):
    rng = np.random.default_rng(0)
    x = rng.integers(SMALLEST, LARGEST + 1, 10_000) >> rng.integers(0, 32, 10_000)
    numbers = zip(x, rng.integers(2**30, 2**31, x.size), rng.integers(-31, 31, x.size), strict=True)
    compare(list(numbers), rounding)


@pytest.mark.parametrize("rounding", ShiftRounding)
def test_the_ends_of_the_range_at_every_shift(rounding):
    ends = (SMALLEST, SMALLEST + 1, -1, 0, 1, LARGEST - 1, LARGEST)
    compare([(x, m, s) for x in ends for m in (0, 2**30, 3 * 2**29, LARGEST) for s in range(-31, 31)], rounding)


@pytest.mark.parametrize("rounding", ShiftRounding)
def test_ties_and_their_neighbours_at_every_shift(rounding):
    # 2^30 is a half, so that x * 2^30 * 2^(shift - 31) ends in a half for odd multiples of 2^-shift.
    ties = [(odd * 2**-s, 2**30, s) for s in range(-28, 1) for odd in (-7, -5, -3, -1, 1, 3, 5, 7)]
    compare([(x + step, m, s) for x, m, s in ties for step in (-1, 0, 1)], rounding)


@pytest.mark.parametrize(
    ("x", "shift", "double", "double_upwards", "single", "even"),
    [
        (1, 0, 1, 1, 1, 0),  # 0.5
        (-1, 0, 0, 0, 0, 0),  # -0.5
        (-3, 0, -1, -1, -1, -2),  # -1.5
        (2, -1, 1, 1, 1, 0),  # 0.5 in the second rounding
        (-2, -1, -1, 0, 0, 0),  # -0.5 in the second rounding
        (-6, -1, -2, -1, -1, -2),  # -1.5
        (1, -1, 1, 1, 0, 0),  # 0.25: rounded twice it becomes 0.5, then 1
        (-1, -1, 0, 0, 0, 0),  # -0.25
        (5, -1, 2, 2, 1, 1),  # 1.25
        (-3, -1, -1, 0, -1, -1),  # -0.75: -1 / 2 after the first rounding
    ],
)
def test_what_each_rounding_does_at_a_tie(x, shift, double, double_upwards, single, even):
    half, shift = np.array(2**30, np.int32), np.array(shift, np.int32)
    got = {mode: int(requantize(jnp.int32(x), half, shift, mode)) for mode in ShiftRounding}
    assert list(got.items()) == [(DOUBLE, double), (DOUBLE_UPWARDS, double_upwards), (SINGLE, single), (EVEN, even)]


def test_channels_have_multipliers_of_their_own_and_nothing_needs_64_bits():
    assert jnp.asarray(1.5).dtype == jnp.float32  # 64 bits are not switched on
    x = jnp.arange(-1000, 1000, dtype=jnp.int32).reshape(10, 5, 40) * 77_777
    mantissa, shift = multiplier(np.geomspace(1e-4, 3.0, 40))
    got = np.asarray(compiled(x, mantissa, shift, DOUBLE))
    assert got.dtype == np.int32 and got.shape == x.shape
    for index in np.ndindex(3, 5, 40):
        assert got[index] == slow(x[index], mantissa[index[-1]], shift[index[-1]], DOUBLE)


@given(st.floats(2.0**-32, 2.0**29))
def test_a_multiplier_is_the_nearest_of_its_octave(real):
    mantissa, shift = (int(part) for part in multiplier(real))
    assert 2**30 <= mantissa < 2**31 and -31 <= shift <= 30
    unit = Fraction(2) ** (shift - 31)
    assert abs(mantissa * unit - Fraction(real)) <= unit / 2


@pytest.mark.parametrize(
    ("real", "mantissa", "shift"),
    [
        (1.0, 2**30, 1),
        (0.5, 2**30, 0),
        (0.75, 3 * 2**29, 0),
        (np.nextafter(1.0, 0.0), 2**30, 1),  # the mantissa rounds up to 2^31
        ((2**30 + 0.5) * 2.0**-31, 2**30 + 1, 0),  # halves go up
        (2.0**-32, 2**30, -31),
        (np.nextafter(2.0**-32, 0.0), 2**30, -31),  # it rounds up to the smallest
        (2.0**-32 * 0.999, 0, 0),
        (5e-324, 0, 0),
        (0.0, 0, 0),
        (2.0**29, 2**30, 30),
    ],
)
def test_multipliers_that_are_known(real, mantissa, shift):
    assert tuple(map(int, multiplier(real))) == (mantissa, shift)


def test_multipliers_of_channels():
    mantissa, shift = multiplier(np.array([[1.0, 0.0], [0.25, 3.0]]))
    assert mantissa.dtype == shift.dtype == np.int32
    np.testing.assert_array_equal(mantissa, [[2**30, 0], [2**30, 3 * 2**29]])
    np.testing.assert_array_equal(shift, [[1, 0], [-1, 2]])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1e-3])
def test_a_multiplier_that_is_none(wrong):
    with pytest.raises(ValueError, match=r"multiplier=.* \(1 of 2\) is not a finite number of at least 0"):
        multiplier(np.array([0.5, wrong]))


@pytest.mark.parametrize("wrong", [2.0**30, np.nextafter(2.0**30, 0.0), 1e300])
def test_a_multiplier_beyond_the_largest(wrong):
    with pytest.raises(ValueError, match=r"is not below 2\^30.*scale of the output is far too small"):
        multiplier(wrong)


@pytest.mark.parametrize("rounding", ShiftRounding)
def test_every_pair_of_codes_is_added_as_the_definition_says(rounding):
    first, second = np.divmod(np.arange(2**16), 256) - np.array([[128], [128]])
    scales, zero_points = (0.0213, 0.0047, 0.0251), (-5, 17, 3)
    parts = addition(*scales)
    codes = compiled_add(
        jnp.asarray(first, jnp.int8), jnp.asarray(second, jnp.int8),
        multipliers=parts, zero_points=zero_points, rounding=rounding, low=-100, high=99,
    )  # fmt: skip
    lone = [  # each input alone has 256 values, so the slow loop need not visit each pair
        {code: slow((code - zero) << 20, *part, rounding) for code in range(-128, 128)}
        for zero, part in zip(zero_points[:2], parts[:2], strict=True)
    ]
    totals = [lone[0][a] + lone[1][b] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    exact = {total: slow(total, *parts.output, rounding) for total in set(totals)}
    np.testing.assert_array_equal(codes, np.clip([exact[total] + 3 for total in totals], -100, 99))
    real = ((first + 5) * scales[0] + (second - 17) * scales[1]) / scales[2] + 3
    assert np.abs(np.asarray(codes) - np.clip(real, -100, 99)).max() < 0.5 + 1e-4


def test_unsigned_codes_are_added_too():
    codes = add(
        jnp.array([255, 0], jnp.uint8), jnp.array([255, 3], jnp.uint8),
        multipliers=addition(0.1, 0.1, 0.2), zero_points=(0, 0, 0), rounding=SINGLE, low=0, high=255,
    )  # fmt: skip
    np.testing.assert_array_equal(codes, [255, 2])


@pytest.mark.parametrize("scales", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, np.nan), (np.inf, 1.0, 1.0)])
def test_an_addition_of_scales_that_are_none(scales):
    with pytest.raises(ValueError, match="of an addition are not all positive and finite"):
        addition(*scales)


def test_an_addition_into_a_scale_that_is_too_small():
    with pytest.raises(ValueError, match=r"output scale of 1e-07 is too small .* above 1\.907\d*e-06"):
        addition(1.0, 0.5, 1e-7)


@pytest.mark.parametrize("rounding", ShiftRounding)
@pytest.mark.parametrize("count", [1, 2, 7, 8, 49, 64, 1000])
def test_a_mean_is_a_requantization_by_a_part_of_the_multiplier(rounding, count):
    real, zero_points = 0.731, (-11, 4)
    mantissa, shift = (int(part) for part in mean_multiplier(real, count))
    whole, place = (int(part) for part in multiplier(real))
    up = math.floor(math.log2(count))
    assert (mantissa, shift) == (whole * 2**up // count, place - up)
    totals = np.unique(np.linspace(-128 * count, 127 * count, 999).astype(np.int32))
    codes = compiled_mean(
        jnp.asarray(totals), count, multiplier=mean_multiplier(real, count), zero_points=zero_points, rounding=rounding
    )
    expected = [slow(int(total) + 11 * count, mantissa, shift, rounding) + 4 for total in totals]
    np.testing.assert_array_equal(codes, np.clip(expected, -128, 127))
    exact = np.clip((totals / count + 11) * real + 4, -128, 127)
    assert np.abs(np.asarray(codes) - exact).max() <= (0.5 if rounding is SINGLE else 1) + 1e-4


def test_the_mean_of_a_tiny_multiplier_keeps_a_shift_that_exists():
    mantissa, shift = (int(part) for part in mean_multiplier(2.0**-30, 1000))
    assert (mantissa, shift) == (2**30 * 4 // 1000, -31)  # shifted up by two of the nine places


@pytest.mark.parametrize("count", [0, -1, 2**23 + 1])
def test_a_mean_of_a_count_that_cannot_be(count):
    with pytest.raises(ValueError, match=rf"count={count} is outside 1\.\.8388608"):
        mean_multiplier(1.0, count)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10, 64])
def test_average_pooling_takes_the_nearer_code_and_halves_away_from_zero(count):
    totals = np.arange(-128 * count, 127 * count + 1, dtype=np.int32)
    expected = [away(Fraction(int(total), count)) for total in totals]
    np.testing.assert_array_equal(average_pool(jnp.asarray(totals), count), expected)
    np.testing.assert_array_equal(average_pool(jnp.asarray(totals), count, low=-3, high=5), np.clip(expected, -3, 5))


def test_the_two_averages_differ_at_ties():
    # 4.5 about the zero point 10: MEAN goes away from the zero point, AVERAGE_POOL_2D away from the code 0.
    total = jnp.array([18], jnp.int32)
    codes = mean(total, 4, multiplier=mean_multiplier(1.0, 4), zero_points=(10, 10), rounding=DOUBLE)
    assert (int(codes[0]), int(average_pool(total, 4)[0])) == (4, 5)
