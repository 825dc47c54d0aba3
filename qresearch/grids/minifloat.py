"""Small floating-point numbers: one sign bit, X exponent bits, Y mantissa bits, 1 + X + Y <= 8.

    normal     (-1)^s 2^(E - bias) (1 + M / 2^Y)      E = 1, 2, ...
    subnormal  (-1)^s 2^(1 - bias) (M / 2^Y)          E = 0,       bias = 2^(X-1) - 1 (fnuz: 2^(X-1))

What the topmost codes mean differs and is a choice, `special`:

    ieee    the top exponent holds infinities and NaN                    e5m2, e3m4
    fn      only the all-ones code is NaN                                e4m3fn
    fnuz    all codes are numbers, the code of -0 is NaN                 e4m3fnuz, e5m2fnuz
    finite  all codes are numbers                                        e3m2, e2m3, e2m1

Micikevicius et al., "FP8 Formats for Deep Learning", 2022, arXiv:2209.05433 (e4m3fn, e5m2); Noune et al.,
"8-bit Numerical Formats for Deep Neural Networks", 2022, arXiv:2206.02915 (fnuz); OCP Microscaling Formats
(MX) v1.0, 2023 (6 and 4 bits). Bit patterns are those of ml_dtypes. Without a mantissa a number between two powers
of two takes the upper one from their middle on, as e8m0 does there.
"""

import enum

import jax.numpy as jnp

from qresearch.core.grid import clip
from qresearch.core.octave import exponent_of, octave, power_of_two
from qresearch.core.pytree import WholeNumber, leaf, pytree_dataclass
from qresearch.core.rounding import round_to_whole


class Special(enum.StrEnum):
    """What the topmost codes mean; see the head of this file."""

    ieee = "ieee"
    fn = "fn"
    fnuz = "fnuz"
    finite = "finite"


@pytree_dataclass
class MiniFloat:
    """Numbers of `exponent` exponent bits and `mantissa` mantissa bits.

    With `saturate` a value beyond the range becomes the largest one; without, what rounds beyond it becomes
    infinity (ieee) or NaN (fn, fnuz).

    Raises ValueError for widths that are too large, and for codes that leave no number.
    """

    exponent: WholeNumber = leaf(4)
    mantissa: WholeNumber = leaf(3)
    special: Special = Special.fn
    saturate: bool = True

    def __post_init__(self):
        object.__setattr__(self, "special", Special(self.special))
        if isinstance(self.exponent, int) and isinstance(self.mantissa, int):
            self._check(self.exponent, self.mantissa)
        if self.special is Special.finite and not self.saturate:
            raise ValueError(
                "saturate=false with special=finite: there is no code for infinity or NaN; set saturate=true."
            )

    def _check(self, exponent: int, mantissa: int) -> None:
        if exponent < 1 or mantissa < 0 or 1 + exponent + mantissa > 8:
            raise ValueError(
                f"exponent={exponent}, mantissa={mantissa}: a small float has exponent >= 1, mantissa >= 0 and at most "
                "8 bits with its sign."
            )
        if (self.special is Special.fn and mantissa == 0) or (self.special is Special.ieee and exponent == 1):
            raise ValueError(
                f"exponent={exponent}, mantissa={mantissa} with special={self.special} has no number left in its top "
                "exponent; use special=finite."
            )

    @property
    def bits(self):
        return self.exponent + self.mantissa + 1

    @property
    def symmetric(self):
        return True

    @property
    def uniform(self):
        return False

    @property
    def low(self):
        return -self.high

    @property
    def high(self):
        lost = 2 if self.special is Special.fn else 1  # codes of the top octave that are no numbers, 1 = none
        fraction = 2.0 - lost * power_of_two(-self._mantissa)
        return power_of_two(self._top_exponent) * fraction

    @property
    def reach(self):
        return self.high

    @property
    def top_step(self):
        return power_of_two(self._top_exponent - self._mantissa)

    @property
    def count(self):
        octaves = self._top_exponent - self._lowest_exponent + 1
        positive = jnp.left_shift(octaves + 1, self._mantissa) - (2 if self.special is Special.fn else 1)
        return 2 * positive + 1

    def describe(self):
        special = "" if self.special in (Special.finite, Special.ieee) else self.special
        return f"e{int(self.exponent)}m{int(self.mantissa)}{special}{'' if self.saturate else ' overflowing'}"

    def with_sign(self, has_negative):
        """Itself: the sign bit is always there."""
        return self

    def round(self, v, rounding, noise):
        if self.saturate:
            v = clip(v, self.low, self.high)
        # The octave of v, no lower than that of the smallest normal number: its step is that of the subnormal ones.
        step = jnp.maximum(octave(v), power_of_two(self._lowest_exponent)) * power_of_two(-self._mantissa)
        rounded = round_to_whole(v / step, rounding, noise) * step
        if self.special is Special.fnuz:
            rounded = jnp.where(rounded == 0, 0.0, rounded)  # there is no -0
        if self.saturate:
            return rounded
        beyond = jnp.sign(v) * (jnp.inf if self.special is Special.ieee else jnp.nan)
        fits = (jnp.abs(rounded) <= self.high) | jnp.isnan(v)  # of an infinite v, rounded is NaN
        return jnp.where(fits, rounded, beyond)

    def encode(self, values):
        magnitude = jnp.abs(values)
        normal = magnitude >= power_of_two(self._lowest_exponent)
        base = jnp.where(normal, octave(magnitude), power_of_two(self._lowest_exponent))
        field = jnp.where(normal, exponent_of(base) + self._bias, 0)
        fraction = magnitude / base - jnp.where(normal, 1.0, 0.0)
        code = jnp.left_shift(field, self._mantissa) + (fraction * power_of_two(self._mantissa)).astype(jnp.int32)
        code = jnp.where(jnp.isfinite(values), code, self._special_code(values))
        sign = jnp.where(jnp.signbit(values), 1, 0) << (self._exponent + self._mantissa)
        if self.special is Special.fnuz:  # no -0, and NaN in its place
            negative_zero = jnp.left_shift(jnp.ones_like(sign), self._exponent + self._mantissa)
            return jnp.where(jnp.isfinite(values), jnp.where(code == 0, 0, code + sign), negative_zero).astype(
                jnp.uint8
            )
        return (code + sign).astype(jnp.uint8)

    def decode(self, codes):
        codes = codes.astype(jnp.int32)
        field = (codes >> self._mantissa) & (jnp.left_shift(1, self._exponent) - 1)
        fraction = (codes & (jnp.left_shift(1, self._mantissa) - 1)).astype(jnp.float32) * power_of_two(-self._mantissa)
        base = power_of_two(jnp.maximum(field, 1) - self._bias)
        magnitude = base * jnp.where(field > 0, 1.0 + fraction, fraction)
        negative = (codes >> (self._exponent + self._mantissa)) & 1 == 1
        if self.special is Special.ieee:
            magnitude = jnp.where(magnitude > self.high, jnp.where(fraction == 0, jnp.inf, jnp.nan), magnitude)
        elif self.special is Special.fn:
            magnitude = jnp.where(magnitude > self.high, jnp.nan, magnitude)
        elif self.special is Special.fnuz:
            magnitude = jnp.where(negative & (magnitude == 0), jnp.nan, magnitude)
        return jnp.where(negative, -magnitude, magnitude)

    def _special_code(self, values):
        """The code, without its sign, of infinity and NaN."""
        top = jnp.left_shift(jnp.left_shift(1, self._exponent) - 1, self._mantissa)
        if self.special is Special.ieee:
            quiet = jnp.left_shift(1, jnp.maximum(self._mantissa - 1, 0))
            return jnp.where(jnp.isnan(values), top + quiet, top)
        return top + jnp.left_shift(1, self._mantissa) - 1

    @property
    def _exponent(self):
        return jnp.asarray(self.exponent, jnp.int32)

    @property
    def _mantissa(self):
        return jnp.asarray(self.mantissa, jnp.int32)

    @property
    def _bias(self):
        half = jnp.left_shift(1, self._exponent - 1)
        return half if self.special is Special.fnuz else half - 1

    @property
    def _lowest_exponent(self):
        return 1 - self._bias

    @property
    def _top_exponent(self):
        top_field = jnp.left_shift(1, self._exponent) - (2 if self.special is Special.ieee else 1)
        return top_field - self._bias
