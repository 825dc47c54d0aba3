"""XNOR-Net against its equations 6 and 7 and the gradient of section 3.1: Rastegari et al., ECCV 2016."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.xnor import XNOR

RNG = np.random.default_rng(0)


def found(x, spec, g, contract):
    """(x_hat, dx)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())
    apply = functools.partial(XNOR(AbsMax()).apply, qparams={}, fake_quantize=rounding, contract=contract, spec=spec)
    value, pull = jax.vjp(jax.jit(lambda x: apply(x)), jnp.asarray(x))
    return np.asarray(value), np.asarray(pull(jnp.asarray(g))[0])


@pytest.mark.parametrize("contract", [(0, 1, 2), (1, 2, 3)], ids=["weights of a channel", "one sample"])
def test_against_a_loop(contract):
    x, g = (RNG.normal(size=(3, 3, 2, 4)).astype(np.float32) for _ in range(2))
    x[0, 0, 0, 0], x[1, 1, 1, 1] = 1.0, -1.0  # on the bounds
    value, dx = found(x, QuantSpec(Binary(), Granularity.channel), g, contract)
    kept = ({0, 1, 2, 3} - set(contract)).pop()
    for index in np.ndindex(x.shape):
        group = np.take(x, index[kept], axis=kept)
        n, alpha = group.size, np.mean(np.abs(np.float64(group)))
        assert value[index] == pytest.approx(np.sign(x[index]) * alpha, rel=1e-6)
        slope = 1 / n + alpha * (abs(x[index]) <= 1)
        assert dx[index] == pytest.approx(g[index] * slope, rel=2e-5)
    assert np.any(np.abs(x) > 1)


def test_the_scale_has_the_least_squared_error():
    """Equation 6: alpha = mean|W| is the minimum over all scales of the sign."""
    x = RNG.normal(size=(40, 1)).astype(np.float32)
    value, _ = found(x, QuantSpec(Binary()), x, (0,))
    errors = [np.sum((x - np.sign(x) * alpha) ** 2) for alpha in np.linspace(0.1, 2, 500)]
    assert np.sum((x - value) ** 2) <= min(errors)


def test_zeros_stay_next_to_zero():
    value, dx = found(np.zeros((6, 2), np.float32), QuantSpec(Binary(), Granularity.channel), np.ones((6, 2)), (0,))
    assert np.max(np.abs(value)) < 1e-30
    np.testing.assert_allclose(dx, 1 / 6, rtol=1e-6)


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match=r"^quantizer=xnor with grid=ternary.*use format=binary"):
        XNOR(AbsMax()).check(QuantSpec(Ternary()))
