"""Errors, entropies and best steps against integration and a slow search."""

import numpy as np
import pytest
from scipy import integrate, stats

from qresearch.theory.cells import decibels, entropy, error
from qresearch.theory.densities import GAUSSIAN, LAPLACE, LOGISTIC, TRIANGULAR, UNIFORM, von_mises
from qresearch.theory.uniform_grid import best_step, slope, unit_levels

DENSITIES = (GAUSSIAN, LAPLACE, UNIFORM, TRIANGULAR, LOGISTIC, von_mises(4.0))
COUNTS = (2, 3, 4, 5, 16, 31, 256)


def mirrored(levels):
    return np.unique(np.concatenate([-levels, levels]))


@pytest.mark.parametrize("levels", [[0.5], [0.0, 1.2], [0.3, 0.9, 2.1], [0.0, 0.2, 1.0, 2.5]])
def test_error_and_entropy_of_a_gaussian_by_integration(levels):
    levels = np.array(levels)
    every = mirrored(levels)
    ends = np.concatenate([[-12.0], (every[1:] + every[:-1]) / 2, [12.0]])
    pieces = [
        integrate.quad(lambda x, y=y: (x - y) ** 2 * stats.norm.pdf(x), low, high, epsabs=1e-13)[0]
        for y, low, high in zip(every, ends, ends[1:], strict=False)
    ]
    assert error(GAUSSIAN, levels) == pytest.approx(sum(pieces), abs=1e-11)
    assert decibels(GAUSSIAN, levels) == pytest.approx(-10 * np.log10(sum(pieces)), abs=1e-8)
    shares = np.diff(stats.norm.cdf(ends))
    assert entropy(GAUSSIAN, levels) == pytest.approx(-np.sum(shares * np.log2(shares)), abs=1e-12)


def test_units_are_symmetric():
    for count in (2, 3, 4, 7, 256):
        every = mirrored(unit_levels(count))
        np.testing.assert_array_equal(every, np.arange(count) - (count - 1) / 2)


@pytest.mark.parametrize("density", DENSITIES, ids=lambda density: density.name)
@pytest.mark.parametrize("count", COUNTS)
def test_no_step_is_better(density, count):
    step, units = best_step(density, count), unit_levels(count)
    assert abs(slope(density, count, step)) < 1e-12
    largest = min(2 * density.reach, 40 * density.mean_magnitude) / units[-1]
    others = np.concatenate([np.linspace(0.02, 1, 3000) * largest, step * (1 + np.linspace(-1e-3, 1e-3, 101))])
    assert error(density, step * units) <= min(error(density, other * units) for other in others) + 1e-14


def test_steps_that_are_known():
    assert best_step(GAUSSIAN, 2) == pytest.approx(2 * np.sqrt(2 / np.pi), rel=1e-14)
    assert best_step(LAPLACE, 2) == pytest.approx(2.0, rel=1e-14)  # both levels are the mean magnitude
    for count in (2, 3, 8, 255, 256):
        assert best_step(UNIFORM, count) == pytest.approx(2 / count, rel=1e-11)


def test_one_level_has_no_step():
    with pytest.raises(ValueError, match=r"^count=1: .* at least 2 levels"):
        best_step(GAUSSIAN, 1)
