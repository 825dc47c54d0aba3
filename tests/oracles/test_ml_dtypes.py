"""Small floats against the casts of ml_dtypes, and against a list of all values built with fractions.

What differs by convention:

- ml_dtypes does not saturate where the type has infinity or NaN: `saturate` is compared with a cast of the clipped
  value. Infinity saturates too.
- Of NaN there is one code here; its sign and payload are not kept. Types without NaN (float6, float4) make it -0 in
  ml_dtypes; in qresearch NaN stays NaN as a value and its code means nothing.
- Without a mantissa (powers of two) a tie goes up instead of to the even code, as in float8_e8m0fnu.
- As a scale, float8_e8m0fnu rounds to the nearer power of two as a number, up from 3/2; scale_rule=nearest rounds the
  logarithm, up from sqrt(2), and the others go one way. Powers of two are kept by all of them.
"""

import bisect
import fractions
import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from qresearch.core.rounding import Rounding
from qresearch.core.scale import represent
from qresearch.core.spec import QuantSpec
from qresearch.grids.integer import Integer
from qresearch.grids.minifloat import MiniFloat, Special

TYPES = {
    "float8_e4m3fn": (4, 3, Special.fn),
    "float8_e5m2": (5, 2, Special.ieee),
    "float8_e4m3fnuz": (4, 3, Special.fnuz),
    "float8_e5m2fnuz": (5, 2, Special.fnuz),
    "float8_e3m4": (3, 4, Special.ieee),
    "float8_e4m3": (4, 3, Special.ieee),
    "float6_e3m2fn": (3, 2, Special.finite),
    "float6_e2m3fn": (2, 3, Special.finite),
    "float4_e2m1fn": (2, 1, Special.finite),
}
ALL_TYPES = pytest.mark.parametrize("name", TYPES)
SATURATE = pytest.mark.parametrize("saturate", [True, False])


@jax.jit
def rounded(grid, v):
    """(values, codes, values of the codes)"""
    values = grid.round(v, Rounding.half_even, None)
    codes = grid.encode(values)
    return values, codes, grid.decode(codes)


@jax.jit
def both_ways(grid, codes):
    decoded = grid.decode(codes)
    return decoded, grid.encode(decoded)


@functools.cache
def patterns():
    """The values of all bit patterns of bfloat16 and float16, as float32."""
    every = np.arange(2**16).astype(np.uint16)
    return np.concatenate([every.view(kind).astype(np.float32) for kind in (ml_dtypes.bfloat16, np.float16)])


def same(ours, theirs):
    """Equal values with equal signs of zero; NaN equals NaN."""
    np.testing.assert_array_equal(ours, theirs)
    number = ~np.isnan(theirs)
    np.testing.assert_array_equal(np.signbit(ours)[number], np.signbit(theirs)[number])


@ALL_TYPES
@SATURATE
def test_all_16_bit_floats(name, saturate):
    kind, special, v = getattr(ml_dtypes, name), TYPES[name][2], patterns()
    if special is Special.finite and not saturate:
        with pytest.raises(ValueError, match="no code for infinity or NaN"):
            MiniFloat(*TYPES[name], saturate)
        return
    largest = np.float32(ml_dtypes.finfo(kind).max)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = (np.clip(v, -largest, largest) if saturate else v).astype(kind)
    theirs = np.where(np.isnan(v), np.float32(np.nan), cast.astype(np.float32))
    values, codes, decoded = rounded(MiniFloat(*TYPES[name], saturate), jnp.asarray(v))
    same(values, theirs)
    number = ~np.isnan(theirs)
    assert not saturate or number.sum() == 128_772
    np.testing.assert_array_equal(np.asarray(codes)[number], cast.view(np.uint8)[number])
    if special is not Special.finite:
        number = slice(None)
    same(np.asarray(decoded)[number], theirs[number])


@ALL_TYPES
def test_all_codes(name):
    kind, grid = getattr(ml_dtypes, name), MiniFloat(*TYPES[name])
    codes = np.arange(2**grid.bits).astype(np.uint8)
    theirs = codes.view(kind).astype(np.float32)
    decoded, encoded = both_ways(grid, jnp.asarray(codes))
    same(decoded, theirs)
    number = ~np.isnan(theirs)
    np.testing.assert_array_equal(np.asarray(encoded)[number], codes[number])
    assert (~number).sum() == {Special.fn: 2, Special.fnuz: 1, Special.finite: 0}.get(
        grid.special, 2 * (2**grid.mantissa - 1)
    )
    finite = theirs[np.isfinite(theirs)]
    assert grid.high == finite.max() == -grid.low and grid.count == np.unique(finite).size
    assert grid.top_step == np.diff(np.unique(finite))[-1]


FORMATS = [
    (exponent, mantissa, special)
    for exponent, mantissa, special in itertools.product(range(1, 8), range(7), Special)
    if 1 + exponent + mantissa <= 8
    and not (special is Special.fn and mantissa == 0)
    and not (special is Special.ieee and exponent == 1)
]


@functools.cache
def listed(exponent, mantissa, special):
    """The numbers above or equal to zero, in rising order, as (fraction, code)."""
    bias = 2 ** (exponent - 1) - (special is not Special.fnuz)
    found = []
    for field, fraction in itertools.product(range(2**exponent), range(2**mantissa)):
        last_field, all_ones = field == 2**exponent - 1, fraction == 2**mantissa - 1
        if (special is Special.ieee and last_field) or (special is Special.fn and last_field and all_ones):
            continue
        units = fraction if field == 0 else 2**mantissa + fraction
        power = max(field, 1) - bias - mantissa
        value = units * fractions.Fraction(2) ** power
        found.append((value, field * 2**mantissa + fraction))
    return sorted(found)


def nearest(values, codes, v, mantissa):
    """The index of the value nearest to v >= 0; halfway, of that with the even code. Without a mantissa, where the
    values are powers of two, halfway is up, but for half of the smallest, which becomes zero.
    """
    after = bisect.bisect_left(values, v)
    if after == len(values) or values[after] == v:
        return min(after, len(values) - 1)
    below, above = v - values[after - 1], values[after] - v
    down = codes[after - 1] % 2 == 0 if mantissa else after == 1
    return after - (below < above or (below == above and down))


def probes(values):
    """Float32 numbers: the values, the middles between them, the floats next to both, and numbers beyond."""
    exact = np.array([float(value) for value in values])
    points = np.concatenate([exact, (exact[1:] + exact[:-1]) / 2, exact[-1] * np.array([1.01, 1.3, 2, 1e10])])
    points = points.astype(np.float32)
    points = np.concatenate([points, np.nextafter(points, np.float32(0)), np.nextafter(points, np.float32(np.inf))])
    return points[(points == 0) | (points >= np.finfo(np.float32).tiny)]


def compare_with_the_list(widths):
    """What differs between the grid and the list for both signs, in words."""
    values, codes = zip(*listed(*widths), strict=True)
    grid, v = MiniFloat(*widths), probes(values)
    found = [nearest(values, codes, fractions.Fraction(float(one)), widths[1]) for one in v]
    expected = np.array([float(values[index]) for index in found], np.float32)
    expected_codes = np.array([codes[index] for index in found])
    assert (float(grid.high), int(grid.count)) == (float(values[-1]), 2 * len(values) - 1)
    for sign in (1, -1):
        padded = np.pad(sign * v, (0, 1024 - v.size))  # one program for all widths
        ours, ours_codes, decoded = (np.asarray(part)[: v.size] for part in rounded(grid, jnp.asarray(padded)))
        bit = (sign < 0) & ((expected != 0) | (grid.special is not Special.fnuz))
        differ = ours != sign * expected
        if differ.any():
            yield f"{grid.describe()}: {differ.sum()}, {(sign * v)[differ][:3]} become {ours[differ][:3]}"
        elif not np.array_equal(ours_codes, expected_codes + np.where(bit, 2 ** (grid.bits - 1), 0)):
            yield f"{grid.describe()}: codes"
        elif not np.array_equal(decoded, ours):
            yield f"{grid.describe()}: values of codes"


@pytest.mark.parametrize("special", Special)
def test_every_format_of_up_to_8_bits(special):
    formats = [widths for widths in FORMATS if widths[2] is special]
    assert len(formats) == {"ieee": 21, "fn": 21, "fnuz": 28, "finite": 28}[special]
    wrong = [difference for widths in formats for difference in compare_with_the_list(widths)]
    assert not wrong, "\n".join(wrong)


def test_ties_of_powers_of_two():
    """3/2 of a power of two is rounded up, here and in the only such type of ml_dtypes: the even exponent plays no
    part, though it would make an even code.
    """
    ties = np.float32([0.75, 1.5, 3, 6])
    np.testing.assert_array_equal(ties.astype(ml_dtypes.float8_e8m0fnu).astype(np.float32), [1, 2, 4, 8])
    np.testing.assert_array_equal(rounded(MiniFloat(5, 0, Special.finite), jnp.asarray(ties))[0], [1, 2, 4, 8])


def test_scales_in_bfloat16():
    every = np.arange(0, 0x7F80 << 16, 9973, dtype=np.int64).astype(np.int32).view(np.float32)
    scales = every[(every >= np.finfo(np.float32).tiny) & (every < 3e38)]
    held = represent(jnp.asarray(scales), QuantSpec(Integer(8), scale_format="bfloat16"))
    np.testing.assert_array_equal(held, scales.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert scales.size > 200_000


def test_scales_in_e4m3():
    """The largest is 448 units of the tensor's scale; none falls below the smallest number of the type."""
    scales = np.exp2(np.random.default_rng(0).uniform(-20, 0, 10_000)).astype(np.float32)
    spec = QuantSpec(Integer(4), "block", 16, scale_format="e4m3")
    unit = scales.max() / np.float32(448)
    theirs = (scales / unit).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert theirs.max() == 448 and np.sum(theirs == 0) > 100
    held = np.asarray(represent(jnp.asarray(scales), spec))
    np.testing.assert_array_equal(held, np.maximum(theirs, np.float32(2.0**-9)) * unit)
    np.testing.assert_array_equal(represent(jnp.asarray(held), spec), held)


@pytest.mark.parametrize("rule", ["floor", "ceil", "nearest", "even"])
def test_scales_in_e8m0(rule):
    """All its powers of two that are normal floats are kept; other numbers go where the rule says."""
    powers = np.arange(1, 255).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert powers[0] == np.finfo(np.float32).tiny and powers[-1] == 2.0**127
    spec = QuantSpec(Integer(8), "block", 32, scale_format="e8m0", scale_rule=rule)
    np.testing.assert_array_equal(represent(jnp.asarray(powers), spec), powers)
    between = np.float32([1.1, 1.41, 1.42, 1.49, 1.5, 1.9])
    theirs = between.astype(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    np.testing.assert_array_equal(theirs, [1, 1, 1, 1, 2, 2])
    # floor and even judge the largest magnitude, 127 x scale, which lies above 128 for each of these.
    ours = {"floor": [2] * 6, "even": [2] * 6, "ceil": [2] * 6, "nearest": [1, 1, 2, 2, 2, 2]}[rule]
    np.testing.assert_array_equal(represent(jnp.asarray(between), spec), ours)
