"""The estimators of a sign against the derivative of the curve that each paper draws through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.ede import EDE
from qresearch.estimators.piecewise import PiecewisePolynomial
from qresearch.estimators.reste import ReSTE
from qresearch.estimators.swish import SwishSign
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.levels import Levels
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.ternary import Ternary

V = np.float32(np.linspace(-2.305, 2.3, 119))  # none on a kink of a curve


def slope(v, estimator, progress=1.0, grid=None, scale=1.0):
    spec = QuantSpec(Binary() if grid is None else grid)

    def rounded(x):
        return jnp.sum(fake_quantize(x, jnp.full(1, scale, jnp.float32), None, spec, estimator, progress=progress))

    return np.asarray(jax.grad(rounded)(jnp.asarray(v, jnp.float32) * np.float32(scale)))


def difference(curve, v):
    """The central difference of a curve in float64, one point at a time."""
    return [(curve(x + 1e-6) - curve(x - 1e-6)) / 2e-6 for x in np.float64(v)]


def approx_sign(x):
    """Liu et al., ECCV 2018."""
    if x < -1:
        return -1
    if x < 0:
        return 2 * x + x * x
    return 2 * x - x * x if x < 1 else 1


def test_piecewise_polynomial():
    found = slope(V, PiecewisePolynomial())
    np.testing.assert_allclose(found, difference(approx_sign, V), atol=1e-5)
    np.testing.assert_allclose(slope([-1.5, -1, -0.25, 0, 0.5, 1], PiecewisePolynomial()), [0, 0, 1.5, 2, 1, 0])


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_swish_sign(beta):
    """Darabi et al. 2018: 2 sigma(b x) (1 + b x (1 - sigma(b x))) - 1."""

    def curve(x):
        sigma = 1 / (1 + np.exp(-beta * x))
        return 2 * sigma * (1 + beta * x * (1 - sigma)) - 1

    found = slope(V, SwishSign(beta))
    np.testing.assert_allclose(found, difference(curve, V), rtol=1e-4, atol=1e-5 * beta)
    assert slope([0.0], SwishSign(beta)) == pytest.approx(beta)
    np.testing.assert_array_equal(slope([-np.inf, -1e30, 1e3, np.inf], SwishSign(beta)), 0)


@pytest.mark.parametrize(("progress", "t"), [(0.0, 0.1), (0.25, 10**-0.5), (0.5, 1.0), (0.75, 10**0.5), (1.0, 10.0)])
def test_error_decay(progress, t):
    """Qin et al., CVPR 2020, equations 13 to 16, with the paper's 10^-1 and 10^1."""
    k = max(1 / t, 1)
    found = slope(V, EDE(), progress)
    np.testing.assert_allclose(found, difference(lambda x: k * np.tanh(t * x), V), rtol=2e-4, atol=2e-5)
    assert slope([0.0], EDE(), progress) == pytest.approx(max(1, t), rel=1e-5)
    np.testing.assert_array_equal(slope([-np.inf, np.inf], EDE(), progress), 0)


def rectified(x, o, t, m):
    """The derivative in the authors' code, one element at a time."""
    if abs(x) > t:
        return 0.0
    if abs(x) > m:
        return abs(x) ** ((1 - o) / o) / o
    return m ** (1 / o) / m


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_rectified_straight_through(progress):
    o = 1 + (1 - np.cos(progress * np.pi / 2)) * 2
    expected = [rectified(x, o, 1.5, 0.1) for x in np.float64(V)]
    np.testing.assert_allclose(slope(V, ReSTE(), progress), expected, rtol=1e-5)
    assert 0 in expected
    np.testing.assert_array_equal(slope([-np.inf, 1.6, np.inf], ReSTE(), progress), 0)


def test_rectified_straight_through_begins_straight():
    """o = 1 is the identity up to t; at m = 0.1 and o = 3 the chord has the slope 0.1^(-2/3)."""
    np.testing.assert_allclose(slope([-1.4, 0.0, 0.05, 1.4], ReSTE(), 0.0), 1, rtol=1e-6)
    np.testing.assert_allclose(slope([-0.05, 0.0, 0.09], ReSTE(), 1.0), 0.1 ** (-2 / 3), rtol=1e-5)


ALL = [PiecewisePolynomial(), SwishSign(), EDE(), ReSTE()]


@pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)
def test_any_two_opposite_values_will_do(estimator):
    """At another scale, and on the grid of one bit whose values are -1/2 and 1/2: h sign(x) has the slope F'(x / h)."""
    expected = slope(V, estimator, 0.3)
    np.testing.assert_allclose(slope(V, estimator, 0.3, scale=0.25), expected, rtol=1e-5)
    np.testing.assert_allclose(slope(V / 2, estimator, 0.3, MidRise(1)), expected, rtol=1e-5)
    for grid in (Binary(), MidRise(1), Levels([-2.0, 2.0])):
        estimator.check(QuantSpec(grid))


@pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)
@pytest.mark.parametrize(
    "grid",
    [Ternary(), Integer(2), MidRise(2), Integer(1, ZeroPoint.integer), Integer(1, signed=False), Levels([0.0, 1.0])],
    ids=lambda grid: grid.describe(),
)
def test_other_grids_are_refused(estimator, grid):
    with pytest.raises(ValueError, match=r"derivative of a sign.*use format=binary"):
        estimator.check(QuantSpec(grid))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwishSign(0), r"^beta=0 must be above zero"),
        (lambda: EDE(0.0), r"^t_min=0.0, t_max=10.0: need 0 < t_min"),
        (lambda: EDE(2.0, 1.0), r"^t_min=2.0, t_max=1.0"),
        (lambda: ReSTE(0.5), r"^o_end=0.5 is below 1"),
        (lambda: ReSTE(t=0.1, m=0.2), r"^t=0.1, m=0.2: need 0 < m < t"),
    ],
)
def test_numbers_that_make_no_curve_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
