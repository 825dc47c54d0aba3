"""Powers of two and zero, so that a product is a shift.

    levels  0 and +-2^-k  for  k = 0 .. m - 1

    zero=bit    zero takes one bit, the rest a code each:  m = 2^(b-2), unsigned 2^(b-1)
    zero=code   zero takes one code:                       m = 2^(b-1) - 1, unsigned 2^b - 1

zero=bit is the set of Zhou, Yao, Guo, Xu, Chen, "Incremental Network Quantization: Towards Lossless CNNs with
Low-Precision Weights", ICLR 2017, arXiv:1702.03044: from 2^n1 down to 2^n2, n2 = n1 + 1 - 2^(b-1) / 2 (b = 3 gives two
magnitudes, b = 5 eight). zero=code uses all codes: "PoT" in the comparisons of Li, Dong, Wang, ICLR 2020,
arXiv:1909.13144.

Differs from INQ: its largest level, 2^n1 with n1 = floor(log2(4 max|w| / 3)), is a matter of the scale, and any scale
is allowed. scale_format=power_of_two scale_rule=nearest comes close: it turns from one power to the next at 1.41 times
the lower one, INQ at 1.5. A value in the middle of two levels goes away from zero in INQ: rounding=half_away. Differs
from Miyashita, Lee, Murmann, "Convolutional Neural Networks using Logarithmic Data Representation", 2016,
arXiv:1603.01025: a value takes the nearest level as in INQ, not the level whose logarithm is nearest.
"""

import enum

from qresearch.grids.levels import Levels

SMALLEST_EXPONENT = 63  # far below the noise of float32; the products with a scale stay normal numbers


class Zero(enum.StrEnum):
    """What zero costs; see the head of this file."""

    bit = "bit"
    code = "code"


def powers_of_two(bits: int, signed: bool = True, zero: Zero = Zero.bit) -> Levels:
    """The powers of two from 1 downwards, zero, and, if `signed`, their negatives.

    Raises ValueError for widths that leave no level above zero, or more than float32 can tell from zero.
    """
    magnitude_bits = bits - signed
    if magnitude_bits < 1:
        raise ValueError(
            f"bits={bits} with signed={str(signed).lower()} leaves no power of two; use bits >= {1 + signed}."
        )
    count = 2 ** (magnitude_bits - 1) if Zero(zero) is Zero.bit else 2**magnitude_bits - 1
    if count > SMALLEST_EXPONENT + 1:
        raise ValueError(
            f"bits={bits} with signed={str(signed).lower()} and zero={zero} reaches down to 2^-{count - 1}; "
            f"the smallest level here is 2^-{SMALLEST_EXPONENT}; use fewer bits."
        )
    positive = [2.0**-k for k in reversed(range(count))]
    negative = [-level for level in reversed(positive)] if signed else []
    return Levels([*negative, 0.0, *positive], f"pot{bits}")
