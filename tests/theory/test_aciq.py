"""ACIQ's clipping values: the root against the noise that the paper minimises, and where the constants come from."""

import math

import numpy as np
import pytest
from scipy import optimize

from qresearch.reports.published import published
from qresearch.theory.aciq import clip, clips
from qresearch.theory.densities import GAUSSIAN, LAPLACE

PRINTED = published("aciq_alpha").values


def noise(density, a, bits, one_sided):
    """As the authors' code writes it (`mse_analysis.py`, `int_quantizer.py`); one-sided Gaussian noise is half of the
    clipping noise and the rounding noise of a range half as wide.
    """
    steps = 4.0**bits
    if density is LAPLACE:
        return math.exp(-a) + a**2 / (24 * steps) if one_sided else 2 * math.exp(-a) + a**2 / (3 * steps)
    clipped = (1 + a**2) * (1 - math.erf(a / math.sqrt(2))) - math.sqrt(2 / math.pi) * a * math.exp(-(a**2) / 2)
    return clipped / 2 + a**2 / (24 * steps) if one_sided else clipped + a**2 / (3 * steps)


CASES = [(density, bits, one) for density in (GAUSSIAN, LAPLACE) for bits in range(1, 9) for one in (False, True)]


@pytest.mark.parametrize(("density", "bits", "one_sided"), CASES)
def test_the_noise_is_least_at_ours(density, bits, one_sided):
    ours = clip(density, bits, one_sided=one_sided)
    h = 1e-4
    around = [noise(density, ours + d, bits, one_sided) for d in (-h, 0, h)]
    assert abs(around[2] - around[0]) / (2 * h) < 1e-7 < (around[2] - 2 * around[1] + around[0]) / h**2
    found = optimize.minimize_scalar(noise_of(density, bits, one_sided), bounds=(0.1, 20), method="bounded")
    assert ours == pytest.approx(found.x, abs=1e-4)
    column = f"{density.name}, one-sided" if one_sided else density.name
    printed = PRINTED["1 bit" if bits == 1 else f"{bits} bits"][column]
    assert around[1] <= noise(density, float(printed), bits, one_sided)


def noise_of(density, bits, one_sided):
    return lambda a: noise(density, a, bits, one_sided)


def test_no_bits_of_laplace():
    """a e^a = 3."""
    a = clip(LAPLACE, 0)
    assert a * math.exp(a) == pytest.approx(3, rel=1e-13)


def test_one_side_is_one_bit():
    for density in (GAUSSIAN, LAPLACE):
        for bits in range(8):
            assert clip(density, bits, one_sided=True) == pytest.approx(clip(density, bits + 1), rel=1e-13)


def test_the_table(check_table):
    cells = check_table("aciq", reproduced=42, of=58)
    off = {place: cell for place, cell in cells.items() if not cell.reproduced}
    misprint = off.pop(("3 bits", "laplace, in the text"))
    assert float(misprint.printed) < 3.87 < 3.89 < misprint.value
    for cell in off.values():  # cut off
        assert float(cell.printed) == np.floor(cell.value * 100) / 100 != round(cell.value, 2)
    assert all(cell.reproduced for (_, column), cell in cells.items() if column.endswith("solved"))


def test_the_solver_of_the_authors_is_near():
    """A minimum is flat: its place is found to the root of the precision, 1e-8, times what the curvature allows."""
    for cell in clips():
        if cell.column.endswith("solved"):
            assert abs(cell.value - float(PRINTED[cell.row][cell.column])) < 2e-6
