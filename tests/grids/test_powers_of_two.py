"""Powers of two against the sets of INQ (Zhou et al., ICLR 2017) and of "PoT" (Li et al., ICLR 2020)."""

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.rounding import Rounding
from qresearch.grids.powers_of_two import Zero, powers_of_two


def test_three_bits_of_inq():
    """The paper's example: b = 3 leaves two exponents."""
    assert powers_of_two(3).levels.tolist() == [-1, -0.5, 0, 0.5, 1]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_the_smallest_exponent_is_inqs(bits):
    grid = powers_of_two(bits)
    lowest = 0 + 1 - 2 ** (bits - 1) // 2  # n2 = n1 + 1 - 2^(b-1) / 2 with n1 = 0
    exponents = np.log2([level for level in np.asarray(grid.levels) if level > 0])
    assert exponents.tolist() == list(range(lowest, 1))
    assert grid.count == 2 ** (bits - 1) + 1 and grid.bits == bits


def test_zero_as_one_code_of_many():
    """4 bits: 2^b - 1 levels, from 2^-(2^(b-1) - 2) on."""
    grid = powers_of_two(4, zero=Zero.code)
    assert grid.levels.tolist() == [*(-(2.0**-k) for k in range(7)), 0, *(2.0**-k for k in range(6, -1, -1))]
    assert grid.bits == 4 and grid.describe() == "pot4 (15 levels)"


@pytest.mark.parametrize(
    ("bits", "zero", "positive"),
    [(1, Zero.bit, [1]), (3, Zero.bit, [0.125, 0.25, 0.5, 1]), (2, Zero.code, [0.25, 0.5, 1])],
)
def test_unsigned(bits, zero, positive):
    grid = powers_of_two(bits, signed=False, zero=zero)
    assert grid.levels.tolist() == [0, *positive] and grid.bits == bits


def test_values_take_the_nearest_level():
    """As INQ says it: from the middle of two levels on, the upper one (rounding=half_away)."""
    grid = powers_of_two(4)
    v = np.linspace(-2, 2, 257).astype(np.float32)
    levels = np.asarray(grid.levels)
    nearest = [min(levels, key=lambda level: (abs(level - value), -abs(level))) for value in v]
    assert np.array_equal(grid.round(jnp.asarray(v), Rounding.half_away, None), np.float32(nearest))


@pytest.mark.parametrize(("bits", "signed", "wayout"), [(1, True, "bits >= 2"), (0, False, "bits >= 1")])
def test_too_few_bits(bits, signed, wayout):
    with pytest.raises(ValueError, match=rf"^bits={bits} with signed={str(signed).lower()} leaves .*; use {wayout}"):
        powers_of_two(bits, signed)


def test_too_many_bits():
    with pytest.raises(ValueError, match=r"^bits=9 with signed=true and zero=bit reaches down to 2\^-127.*use fewer"):
        powers_of_two(9)
