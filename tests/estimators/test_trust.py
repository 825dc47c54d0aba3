"""Trust estimation against the authors' form: Panferov et al., "QuEST", 2025, arXiv:2502.05003.

There x is clipped to the scale alpha rms, rounded with the step 2 alpha rms / (2^b - 1), and the gradient passes where
|x_q - x| <= rms alpha / (2^b - 1).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.estimators.trust import Trust
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.ternary import Ternary

ALPHA = {1: 0.7978845587140913, 2: 1.4935346200015913, 4: 2.513930578568423, 8: 3.884938678807525}


def slope(x, scale, spec, threshold=0.5):
    x = jnp.asarray(x)
    scale = jnp.full(1, scale, jnp.float32)
    return np.asarray(jax.grad(lambda x: jnp.sum(fake_quantize(x, scale, None, spec, Trust(threshold))))(x))


@pytest.mark.parametrize("bits", ALPHA)
def test_the_mask_of_the_authors(bits):
    x = (np.random.default_rng(bits).normal(size=4000) * 2).astype(np.float32)
    x[:9] *= 4  # some beyond the widest grid too
    rms, most = np.sqrt(np.mean(np.float64(x) ** 2)), 2**bits - 1
    largest = ALPHA[bits] * rms
    step = 2 * largest / most
    x_q = np.rint(np.clip(np.float64(x), -largest, largest) / step + 0.5) * step - step / 2
    error, trust = np.abs(x_q - x), rms * ALPHA[bits] / most
    # Between two levels the error can be the trust itself; only far from it do roundings of float32 play no part.
    expected = np.where(np.abs(x) < largest, 1.0, error <= trust)
    clear = (np.abs(error - trust) > 1e-4 * trust) | (np.abs(x) < largest)
    found = slope(x, step, QuantSpec(MidRise(bits)))
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert 0 < np.mean(found) < 1 and np.mean(clear) > 0.99


@pytest.mark.parametrize("grid", [Integer(4), Ternary(), MidRise(3)], ids=lambda grid: grid.describe())
def test_half_a_step_beyond_the_ends_is_trusted(grid):
    """All between the levels passes, ties too; then up to 1/2 beyond the outermost level on each side."""
    low, high = float(grid.low), float(grid.high)
    inside = np.concatenate([np.linspace(low, high, 4001), np.arange(2 * low, 2 * high) / 2 + 0.5]).astype(np.float32)
    inside = inside[(inside >= low) & (inside <= high)]
    np.testing.assert_array_equal(slope(inside, 1.0, QuantSpec(grid)), 1)
    beyond = np.float32([low - 0.51, low - 0.5, high + 0.5, high + 0.51, high + 40])
    np.testing.assert_array_equal(slope(beyond, 1.0, QuantSpec(grid)), [0, 1, 1, 0, 0])


def test_a_smaller_threshold_trusts_the_neighbourhood_of_the_levels():
    v = np.float32([-0.3, -0.2, 0.0, 0.2, 0.3, 0.7, 0.8, 1.0])
    np.testing.assert_array_equal(slope(v, 1.0, QuantSpec(Integer(4)), 0.25), [0, 1, 1, 1, 0, 0, 1, 1])


@pytest.mark.parametrize("grid", [Binary(), MiniFloat(2, 1, Special.finite)], ids=lambda grid: grid.describe())
def test_grids_of_other_steps_are_refused(grid):
    with pytest.raises(ValueError, match=r"^estimator=trust with grid=.*counts in steps"):
        Trust().check(QuantSpec(grid))


def test_other_refusals():
    Trust().check(QuantSpec(MidRise(1)))
    with pytest.raises(ValueError, match=r"rounding=stochastic.*use rounding=half_even"):
        Trust().check(QuantSpec(Integer(4), rounding=Rounding.stochastic))
    with pytest.raises(ValueError, match=r"^threshold=0 trusts no value"):
        Trust(0)
