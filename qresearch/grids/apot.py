"""Additive powers of two: every level is a sum of n powers of two, so that a product is n shifts and additions.

    level = gamma * (p_0 + ... + p_(n-1)),    gamma such that the largest level is 1
    B = k n     p_i in {0, 2^-i, 2^-(i+n), ..., 2^-(i + (2^k - 2) n)}                       (equation 5)
    B = 2n + 1  p_i in {0, 2^-i, 2^-(i+n), 2^-(i+2n+1)},  and one more term in {0, 2^-2n}   (equation 6, k = 2)

B is the number of bits of a magnitude: all of them, or, if signed, one less. k = B leaves one term, plain powers of
two; k = 1 gives equal steps. Signed, zero has two codes: 2^b - 1 levels.

Li, Dong, Wang, "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural Networks",
ICLR 2020, arXiv:1909.13144. The levels are those of the authors' code (yhhhli/APoT_Quantization) for 2 to 6
bits of magnitude; one bit, ternary weights, follows from equation 6 with n = 0. Differs from the paper: its weight
normalization and its learned clipping are no part of a grid.
"""

import itertools

from qresearch.grids.levels import Levels

LARGEST_BITS = 9
SMALLEST_EXPONENT = 63


def apot(bits: int, signed: bool = True, k: int = 2) -> Levels:
    """The sums of powers of two of base width `k`, with the largest level at 1.

    Raises ValueError for widths outside 2..9 (unsigned 1..8), and for a `k` that does not divide them.
    """
    magnitude_bits = bits - signed
    if not 1 <= magnitude_bits < LARGEST_BITS:
        raise ValueError(
            f"bits={bits} with signed={str(signed).lower()} is outside {1 + signed}..{LARGEST_BITS - 1 + signed}, "
            "the widths of additive powers of two."
        )
    sums = sorted(sum(chosen) for chosen in itertools.product(*_terms(magnitude_bits, k)))
    positive = [value / sums[-1] for value in sums[1:]]
    negative = [-level for level in reversed(positive)] if signed else []
    return Levels([*negative, 0.0, *positive], f"apot{bits}")


def _terms(magnitude_bits: int, k: int) -> list[list[float]]:
    """The values that each term of the sum can take."""
    if k == 2 and magnitude_bits % 2:
        n = magnitude_bits // 2
        exponents = [[i, i + n, i + 2 * n + 1] for i in range(n)] + [[2 * n]]
    else:
        if k < 1 or magnitude_bits % k:
            raise ValueError(
                f"k={k} does not divide the {magnitude_bits} bits of a magnitude; use k=2, or a divisor of them."
            )
        n = magnitude_bits // k
        exponents = [[i + j * n for j in range(2**k - 1)] for i in range(n)]
    if max(map(max, exponents)) > SMALLEST_EXPONENT:
        raise ValueError(f"k={k} reaches below 2^-{SMALLEST_EXPONENT}, the smallest level here; use a smaller k.")
    return [[0.0, *(2.0**-exponent for exponent in term)] for term in exponents]
