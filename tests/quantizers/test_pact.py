"""PACT against the paper: Choi et al., "PACT", 2018, arXiv:1805.06085, equations 1 to 3."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.minifloat import MiniFloat
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.pact import PACT

POINTS = np.concatenate([np.linspace(-4.03, 4.07, 91), [0.0, 1.5, -1.5]]).astype(np.float32)


def slopes(v, alpha, spec):
    """(y_hat, dx, dalpha) of every value alone."""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    def one(x, alpha):
        qparams = {"alpha": alpha.reshape(1, 1)}
        return PACT(AbsMax()).apply(x.reshape(1, 1), qparams, rounding, contract=(0,), spec=spec)[0, 0]

    found = jax.vmap(jax.value_and_grad(one, argnums=(0, 1)), in_axes=(0, None))
    value, gradients = jax.jit(found)(jnp.asarray(v), jnp.float32(alpha))
    return np.asarray(value), *map(np.asarray, gradients)


def paper(x, alpha, bits):
    """Equations 1 to 3."""
    steps = 2**bits - 1
    y = 0.5 * (abs(x) - abs(x - alpha) + alpha)
    return np.rint(y * steps / alpha) * alpha / steps, float(0 <= x < alpha), float(x >= alpha)


def two_sided(x, alpha, bits):
    """The clip to -alpha..alpha, and steps of alpha / (2^(b - 1) - 1)."""
    steps = 2 ** (bits - 1) - 1
    y = min(max(x, -alpha), alpha)
    return np.rint(y * steps / alpha) * alpha / steps, float(-alpha <= x < alpha), float(x >= alpha) - float(x < -alpha)


@pytest.mark.parametrize("alpha", [0.77, 1.5, 3.1])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize(("signed", "rule"), [(False, paper), (True, two_sided)])
def test_values_and_gradients(alpha, bits, signed, rule):
    """Below zero, inside, above, and on both bounds."""
    found = slopes(POINTS, alpha, QuantSpec(Integer(bits, signed=signed)))
    alpha = np.float64(np.float32(alpha))
    expected = np.array([rule(x, alpha, bits) for x in np.float64(POINTS)]).T
    steps = (2 ** (bits - signed) - 1) * POINTS / alpha
    away = np.abs(steps - np.floor(steps) - 0.5) > 1e-4  # from ties
    np.testing.assert_allclose(found[0][away], expected[0][away], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[1:], expected[1:])
    assert away.sum() > 80
    assert len(set(expected[2])) == (3 if signed else 2)


def test_a_scale_of_another_format_keeps_the_gradient_of_alpha():
    """Steps of 0.5 in place of 0.4 or 0.6: the clip is at 1.5, the largest level there is."""
    spec = QuantSpec(Integer(2, signed=False), scale_format="power_of_two", scale_rule="nearest")
    for alpha in (1.2, 1.8):
        value, dx, dalpha = slopes(np.float32([0.9, 1.4, 1.6, 9.0]), alpha, spec)
        np.testing.assert_array_equal(value, [1, 1.5, 1.5, 1.5])
        np.testing.assert_array_equal([dx, dalpha], [[1, 1, 0, 0], [0, 0, 1, 1]])


def test_nan_and_infinity():
    value, _, dalpha = slopes(np.float32([np.nan, np.inf, -np.inf]), 1.5, QuantSpec(Integer(2, signed=False)))
    np.testing.assert_array_equal(value, [np.nan, 1.5, 0])
    np.testing.assert_array_equal(dalpha, [0, 1, 0])


def test_alpha_starts_at_the_observers_largest_level():
    observer, spec = AbsMax(), QuantSpec(Integer(3, signed=False))
    qparams = PACT(observer).init(observer.measure(jnp.asarray([[0.5], [2.5]]), contract=(0,), spec=spec), spec)
    assert set(qparams) == {"alpha"}
    np.testing.assert_allclose(qparams["alpha"], [[2.5]], rtol=1e-6)


@pytest.mark.parametrize("grid", [MiniFloat(2, 1), Integer(4, zero_point=ZeroPoint.float, signed=False)])
def test_what_it_refuses(grid):
    with pytest.raises(ValueError, match=r"^grid=.*: PACT learns .* use format=int with grid.zero_point=none"):
        PACT(AbsMax()).check(QuantSpec(grid))


@pytest.mark.parametrize("signed", [True, False, None])
def test_it_takes_integers_of_either_sign(signed):
    PACT(AbsMax()).check(QuantSpec(Integer(4, signed=signed)))
