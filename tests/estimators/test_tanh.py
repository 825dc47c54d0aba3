"""The tanh staircase against the derivative of the soft quantizer that it comes from: Gong et al., ICCV 2019."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.tanh import Tanh
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.ternary import Ternary

GRIDS = [Integer(3), Integer(2, signed=False), MidRise(2), Ternary()]


def soft(v, low, high, k):
    """The soft quantizer in float64, for steps of one: low + i + (phi + 1) / 2, phi = tanh(k u) / tanh(k / 2)."""
    v = min(max(v, low), high)
    i = min(np.floor(v - low), high - low - 1)
    return low + i + (np.tanh(k * (v - low - i - 0.5)) / np.tanh(k / 2) + 1) / 2


def slope(v, grid, k):
    spec = QuantSpec(grid)
    total = jax.grad(lambda v: jnp.sum(fake_quantize(v, jnp.ones(1), None, spec, Tanh(k))))
    return np.asarray(total(jnp.asarray(v, jnp.float32)))


@pytest.mark.parametrize("k", [0.5, 3.0, 12.0])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.describe())
def test_gradient_against_a_finite_difference(grid, k):
    low, high = float(grid.low), float(grid.high)
    v = np.float32(np.linspace(low - 1.03, high + 1.02, 157))
    expected = [(soft(x + 1e-6, low, high, k) - soft(x - 1e-6, low, high, k)) / 2e-6 for x in np.float64(v)]
    np.testing.assert_allclose(slope(v, grid, k), expected, rtol=1e-4, atol=2e-5 * k)
    assert 0 in expected and np.max(expected) > 1


@pytest.mark.parametrize("k", [0.5, 3.0, 12.0])
def test_the_mean_over_a_step_is_one(k):
    v = np.float32((np.arange(4000) + 0.5) / 4000 + 1)
    assert np.mean(slope(v, Integer(4), k)) == pytest.approx(1, rel=1e-4)


def test_infinities_pass_nothing():
    np.testing.assert_array_equal(slope([-np.inf, np.inf], Integer(4), 3.0), 0)


def test_refusals():
    with pytest.raises(ValueError, match=r"^estimator=tanh with grid=binary: it counts in steps"):
        Tanh().check(QuantSpec(Binary()))
    with pytest.raises(ValueError, match=r"^temperature=0 must be above zero"):
        Tanh(0)
