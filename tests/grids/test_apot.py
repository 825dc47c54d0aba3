"""Additive powers of two against the terms in the authors' code (Li et al., ICLR 2020)."""

import itertools

import numpy as np
import pytest

from qresearch.grids.apot import apot
from qresearch.grids.powers_of_two import Zero, powers_of_two

# Exponents of the terms of one magnitude of B bits: yhhhli/APoT_Quantization, models/quant_layer.py,
# build_power_value, written out. Every term may also be zero.
AUTHORS = {
    2: [[-1, -2, -3]],
    3: [[-1, -2, -4], [-3]],
    4: [[-1, -3, -5], [-2, -4, -6]],
    5: [[-1, -3, -6], [-2, -4, -7], [-5]],
    6: [[-1, -4, -7], [-2, -5, -8], [-3, -6, -9]],
}


@pytest.mark.parametrize("magnitude_bits", AUTHORS)
def test_the_levels_are_the_authors(magnitude_bits):
    terms = [[0.0, *(2.0**e for e in term)] for term in AUTHORS[magnitude_bits]]
    sums = sorted({sum(chosen) for chosen in itertools.product(*terms)})
    expected = np.float32(sums) / np.float32(sums[-1])
    assert len(sums) == 2**magnitude_bits
    unsigned, signed = apot(magnitude_bits, signed=False), apot(magnitude_bits + 1)
    np.testing.assert_allclose(unsigned.levels, expected, rtol=1e-7)
    np.testing.assert_allclose(signed.levels, [*-expected[:0:-1], *expected], rtol=1e-7)
    assert unsigned.bits == magnitude_bits and signed.bits == magnitude_bits + 1


def test_four_bits_by_hand():
    """B = 3, n = 1: a term in {0, 1, 1/2, 1/8}, one in {0, 1/4}; the largest sum is 5/4."""
    sums = [0, 0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.25]
    np.testing.assert_allclose(apot(3, signed=False).levels, np.array(sums) / 1.25, rtol=1e-7)


def test_two_bits_are_ternary():
    assert apot(2).levels.tolist() == [-1, 0, 1]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8, 9])
def test_the_widths(bits):
    grid = apot(bits)
    assert grid.count == 2**bits - 1 and grid.bits == bits and grid.describe() == f"apot{bits} ({grid.count} levels)"


def test_the_ends_of_k():
    """k = 1: equal steps; k = B: one power of two."""
    np.testing.assert_allclose(apot(4, signed=False, k=1).levels, np.arange(16) / 15, rtol=1e-6)
    assert np.array_equal(apot(5, k=4).levels, powers_of_two(5, zero=Zero.code).levels)


@pytest.mark.parametrize(
    ("bits", "signed", "k", "message"),
    [
        (1, True, 2, r"^bits=1 with signed=true is outside 2\.\.9"),
        (9, False, 2, r"^bits=9 with signed=false is outside 1\.\.8"),
        (6, True, 3, r"^k=3 does not divide the 5 bits of a magnitude; use k=2"),
        (4, True, 0, r"^k=0 does not divide the 3 bits"),
        (8, False, 8, r"^k=8 reaches below 2\^-63.*; use a smaller k"),
    ],
)
def test_refusals(bits, signed, k, message):
    with pytest.raises(ValueError, match=message):
        apot(bits, signed, k)
