"""NF4: every digit of the published levels, and the offset from first principles."""

import numpy as np
from scipy import special

from qresearch.grids.nf4 import OFFSET
from qresearch.theory.nf4 import levels


def test_the_table(check_table):
    cells = check_table("nf4", reproduced=16, of=16)
    assert all(cell.value == float(cell.printed) for cell in cells.values())


def test_the_levels_without_the_roundings_of_float32():
    offset = 1 - (1 / 32 + 1 / 30) / 2
    assert abs(offset - float(OFFSET)) < 5e-8
    positive, negative = (special.ndtri(np.linspace(offset, 0.5, count + 1)) for count in (8, 7))
    exact = np.unique([*-negative, *positive]) / positive[0]
    np.testing.assert_allclose([cell.value for cell in levels()], exact, atol=3e-7)
