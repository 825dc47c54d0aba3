"""Integer arithmetic that rescales codes as mobile runtimes do: an int32 times a real number, without any float.

    real ~ mantissa * 2^(shift - 31),    mantissa in [2^30, 2^31),    -31 <= shift <= 30
    code = clip(zero_point + requantize(accumulator))

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2.2 (the multiplier) and appendix A.2 (the addition). The roundings, the flush of tiny
multipliers and the averages are those of the LiteRT interpreter; the tests compare the two code for code.
Differs from the paper: a multiplier of one and more, which its section 2.2 does not have, is a shift to the left.
Differs from the interpreter: a multiplier of 2^30 and more is an error, where it shifts by an undefined amount or takes
the largest that it has.

A product of 64 bits is held in two words of 32, so that JAX's 64-bit integers need not be switched on.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer

from qresearch.core.pytree import WholeNumber

LARGEST_SHIFT = 30
HEADROOM = 20  # bits by which the codes of an addition are shifted up, so that its three roundings stay small
LARGEST_COUNT = 2**23  # elements of an average: their sum, centred, is below 2^31 for codes of 8 bits

Integers = Int32[Array | np.ndarray, "..."]


class ShiftRounding(enum.StrEnum):
    """How a product of 62 bits becomes an int32 again. They differ in the last place of few results.

    The first two round twice: the product to units of 2^31, ties upwards, then what a shift to the right leaves of it.
    A shift to the left comes before the product there, and the bits that leave the word are lost.
    """

    double = "double"  # ties of the second rounding go away from zero (gemmlowp and the reference kernels of LiteRT)
    double_upwards = "double_upwards"  # ties of both go upwards (ruy's vector kernels for x86, which LiteRT uses too)
    single = "single"  # one rounding, by the whole shift at a time, ties upwards
    even = "even"  # one rounding, ties to the even number: that of a simulation in floats


class Multiplier(NamedTuple):
    """A positive real number, or one for each channel: mantissa * 2^(shift - 31). Zero is (0, 0)."""

    mantissa: Integers
    shift: Integers


class Addition(NamedTuple):
    """The multipliers of an addition: of the two inputs to a common scale, and of their sum to that of the output."""

    first: Multiplier
    second: Multiplier
    output: Multiplier


def multiplier(real: float | np.ndarray) -> Multiplier:
    """The mantissa (halves rounded up) and the shift of each `real`; below about 2^-32 both are 0.

    The interpreter makes `real` of float32 scales in float64: input scale * weight scale / output scale.

    Raises ValueError for a number that is negative or not finite, and for one that rounds to 2^30 or more.
    """
    real = np.asarray(real, np.float64)
    wrong = real[~(np.isfinite(real) & (real >= 0))]
    if wrong.size:
        raise ValueError(
            f"multiplier={wrong[0]} ({wrong.size} of {real.size}) is not a finite number of at least 0; it is made of "
            "scales, so check those."
        )
    fraction, exponent = np.frexp(real)
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    carried = mantissa == 2**31
    mantissa, exponent = np.where(carried, 2**30, mantissa), exponent + carried
    if np.any(exponent > LARGEST_SHIFT):
        raise ValueError(
            f"multiplier={real.max()} is not below 2^{LARGEST_SHIFT}, the largest that a shift of 32-bit words holds; "
            "the scale of the output is far too small for that of the input."
        )
    kept = exponent >= -31
    return Multiplier(np.where(kept, mantissa, 0).astype(np.int32), np.where(kept, exponent, 0).astype(np.int32))


def requantize(
    accumulator: Int32[Array, "*shape"], mantissa: Integers, shift: Integers, rounding: ShiftRounding
) -> Int32[Array, "*shape"]:
    """accumulator * mantissa * 2^(shift - 31), rounded; mantissa and shift broadcast against the accumulator.

    Exact for every int32 and -31 <= shift <= 30. A product that no int32 holds wraps around, as in the interpreter;
    no mantissa is negative, so that the one product that its kernels saturate, of -2^31 with itself, cannot occur.
    """
    mantissa, shift = jnp.broadcast_to(mantissa, accumulator.shape), jnp.broadcast_to(shift, accumulator.shape)
    rounding = ShiftRounding(rounding)
    if rounding in (ShiftRounding.single, ShiftRounding.even):
        words, places = _add_power(*_product(accumulator, mantissa), 30 - shift), 31 - shift
        rounded = _shift_words(*words, places)
        if rounding is ShiftRounding.single:
            return rounded
        return rounded - (_is_multiple(*words, places) & rounded & 1)  # a half was rounded upwards
    high, low = _add_power(*_product(accumulator << jnp.maximum(shift, 0), mantissa), jnp.full_like(shift, 30))
    rounded = _shift_words(high, low, jnp.full_like(shift, 31))
    return _shift_rounding(rounded, jnp.maximum(-shift, 0), away=rounding is ShiftRounding.double)


def addition(first: float, second: float, output: float) -> Addition:
    """The multipliers that add codes of the scales `first` and `second` into codes of the scale `output`.

    Raises ValueError for a scale that is not positive, and for an output so fine that its multiplier is not below one.
    """
    scales = np.asarray([first, second, output], np.float64)
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise ValueError(f"scales={scales.tolist()} of an addition are not all positive and finite; calibrate it anew.")
    common = 2 * scales[:2].max()
    rescale = common / (2.0**HEADROOM * scales[2])
    if rescale >= 1:
        raise ValueError(
            f"an output scale of {output} is too small for an addition of scales {first} and {second}: it has to be "
            f"above {common / 2**HEADROOM}; calibrate the output, or leave the addition in float."
        )
    return Addition(multiplier(scales[0] / common), multiplier(scales[1] / common), multiplier(rescale))


def add(
    first: Integer[Array, "*shape"],
    second: Integer[Array, "*shape"],
    *,
    multipliers: Addition,
    zero_points: tuple[WholeNumber, WholeNumber, WholeNumber],
    rounding: ShiftRounding,
    low: WholeNumber = -128,
    high: WholeNumber = 127,
) -> Int32[Array, "*shape"]:
    """The codes of the sum of two tensors of 8-bit codes, clipped to low..high (the zero point as `low` is a ReLU).

    `zero_points` are those of the first, the second and the output.
    """
    total = _raise(first, zero_points[0], multipliers.first, rounding)
    total = total + _raise(second, zero_points[1], multipliers.second, rounding)
    return jnp.clip(requantize(total, *multipliers.output, rounding) + zero_points[2], low, high)


def _raise(codes, zero_point, multiplier: Multiplier, rounding: ShiftRounding):
    """An input of an addition on the common scale."""
    return requantize((codes.astype(jnp.int32) - zero_point) << HEADROOM, *multiplier, rounding)


def mean_multiplier(real: float, count: int) -> Multiplier:
    """The multiplier of the scales divided by the `count` of what is averaged, by integers; the quotient is cut off.

    Raises ValueError for a count that is not positive, or so large that a sum of 8-bit codes could leave int32.
    """
    if not 1 <= count <= LARGEST_COUNT:
        raise ValueError(f"count={count} is outside 1..{LARGEST_COUNT}, what a 32-bit sum of 8-bit codes can average.")
    mantissa, shift = (int(part) for part in multiplier(real))
    # Shifted up by what the division takes away, as far as the shift of the result remains at least -31.
    up = min(count.bit_length() - 1, 31 + shift)
    return Multiplier(np.asarray((mantissa << up) // count, np.int32), np.asarray(shift - up, np.int32))


def mean(
    total: Int32[Array, "*shape"],
    count: WholeNumber,
    *,
    multiplier: Multiplier,
    zero_points: tuple[WholeNumber, WholeNumber],
    rounding: ShiftRounding,
    low: WholeNumber = -128,
    high: WholeNumber = 127,
) -> Int32[Array, "*shape"]:
    """The codes of a mean, from the sum `total` of `count` codes, between scales of its own: the operator MEAN.

    `multiplier` is the `mean_multiplier` of input scale / output scale, `zero_points` are those of input and output.
    """
    centred = total - count * zero_points[0]
    return jnp.clip(requantize(centred, *multiplier, rounding) + zero_points[1], low, high)


def average_pool(
    total: Int32[Array, "*shape"], count: WholeNumber, *, low: WholeNumber = -128, high: WholeNumber = 127
) -> Int32[Array, "*shape"]:
    """The codes of a mean, from the sum `total` of `count` codes, of the same scale and zero point as these: the
    operator AVERAGE_POOL_2D.

    The nearer code; halfway, the one farther from the code 0, whatever the zero point is: unlike `mean`.
    """
    magnitude = jax.lax.div(jnp.abs(total) + count // 2, jnp.full_like(total, count))
    return jnp.clip(jnp.sign(total) * magnitude, low, high)


def _product(x: Int32[Array, "*shape"], y: Int32[Array, "*shape"]):
    """The 64 bits of x * y for y >= 0: the high word, signed, and the low one, unsigned.

    Schoolbook in digits of 16 bits. Each carry is taken before the next sum, so that no sum leaves its word.
    """
    low_x, low_y = x & 0xFFFF, y & 0xFFFF
    high_x, high_y = x >> 16, y >> 16
    lowest = low_x.astype(jnp.uint32) * low_y.astype(jnp.uint32)
    first = high_x * low_y + (lowest >> 16).astype(jnp.int32)
    second = low_x * high_y + (first & 0xFFFF)
    low = (second.astype(jnp.uint32) << 16) | (lowest & 0xFFFF)
    return high_x * high_y + (first >> 16) + (second >> 16), low


def _add_power(high, low, exponent):
    """(high, low) + 2^exponent, 0 <= exponent <= 61."""
    power, within = jnp.ones_like(low) << (exponent & 31).astype(jnp.uint32), exponent < 32
    total = low + jnp.where(within, power, 0)
    carry = (total < low).astype(jnp.int32)
    return high + carry + jnp.where(within, 0, power.astype(jnp.int32)), total


def _shift_words(high, low, places):
    """The low word of (high, low) shifted to the right, 1 <= places <= 62."""
    # A shift by 32 is not defined: the word that comes from above is shifted in two steps.
    inside = ((high << 1) << (31 - (places & 31))) | jax.lax.bitcast_convert_type(
        low >> (places & 31).astype(jnp.uint32), jnp.int32
    )
    return jnp.where(places < 32, inside, high >> (places & 31))


def _is_multiple(high, low, places):
    """1 where (high, low) is a multiple of 2^places, 1 <= places <= 62, else 0."""
    some = (jnp.ones_like(low) << (places & 31).astype(jnp.uint32)) - 1
    below = jnp.where(places < 32, low & some, low | (high.astype(jnp.uint32) & some))
    return (below == 0).astype(jnp.int32)


def _shift_rounding(x, places, *, away: bool):
    """x / 2^places to the nearest whole number, 0 <= places <= 31; halves go upwards, or away from zero."""
    mask = (jnp.ones_like(x) << places) - 1
    threshold = (mask >> 1) + (x < 0).astype(jnp.int32) if away else mask >> 1
    return (x >> places) + ((x & mask) > threshold).astype(jnp.int32)
