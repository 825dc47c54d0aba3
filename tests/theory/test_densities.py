"""Closed forms of tails against numerical integration."""

import numpy as np
import pytest
from scipy import integrate, stats

from qresearch.theory.densities import GAUSSIAN, LAPLACE, LOGISTIC, TRIANGULAR, UNIFORM, von_mises

SCIPY = {
    GAUSSIAN: stats.norm(),
    LAPLACE: stats.laplace(),
    UNIFORM: stats.uniform(-1, 2),
    TRIANGULAR: stats.triang(0.5, -1, 2),
    LOGISTIC: stats.logistic(),
    von_mises(0.5): stats.vonmises(0.5),
    von_mises(4.0): stats.vonmises(4.0),
    von_mises(60.0): stats.vonmises(60.0),
}


def integral(function, low, high):
    return integrate.quad(function, low, min(high, 60.0), epsabs=1e-13, epsrel=1e-12, limit=200)[0]


@pytest.mark.parametrize("density", SCIPY, ids=lambda density: density.name)
def test_tails_and_moments(density):
    pdf = SCIPY[density].pdf
    for t in np.array([0.0, 0.1, 0.7, 0.99, 1.5, 3.0]):
        high = max(t, density.reach)
        mass, moment = density.tails(np.array([t]))
        assert mass[0] == pytest.approx(integral(pdf, t, high), abs=1e-11)
        assert moment[0] == pytest.approx(integral(lambda x: x * pdf(x), t, high), abs=1e-11)
    assert density.mean_square == pytest.approx(2 * integral(lambda x: x**2 * pdf(x), 0, density.reach), rel=1e-10)
    assert density.mean_magnitude == pytest.approx(2 * integral(lambda x: x * pdf(x), 0, density.reach), rel=1e-10)


def test_they_are_halves():
    for density in SCIPY:
        assert density.tails(np.zeros(1)).mass[0] == pytest.approx(0.5, abs=1e-14)


@pytest.mark.parametrize("concentration", [-1.0, np.inf, np.nan])
def test_a_concentration_that_is_none(concentration):
    with pytest.raises(ValueError, match=f"^concentration={concentration}: give a number from 0"):
        von_mises(concentration)


def test_no_concentration_is_a_uniform_angle():
    t = np.array([0.3, 2.0])
    np.testing.assert_allclose(von_mises(0.0).tails(t).mass, (np.pi - t) / (2 * np.pi), rtol=1e-14)


def test_many_points_at_once():
    t = np.linspace(0, 4, 9)
    for density in SCIPY:
        tails = density.tails(t)
        assert tails.mass.shape == tails.moment.shape == t.shape
        one_by_one = [float(density.tails(t[i : i + 1]).moment[0]) for i in range(t.size)]
        np.testing.assert_allclose(tails.moment, one_by_one, atol=1e-15)
