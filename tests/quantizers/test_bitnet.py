"""BitNet b1.58 put together from parts: Ma et al., "The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits",
2024, arXiv:2402.17764, section 2.

    weights:      clip(round(W / (gamma + epsilon)), -1, 1),    gamma = mean|W|
    activations:  8-bit integers whose scale is the largest magnitude of each token over 127
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmax import AbsMax
from qresearch.observers.absmean import AbsMean
from qresearch.quantizers.dynamic import Dynamic

RNG = np.random.default_rng(0)


def pulled(quantizer, x, spec, contract):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=StraightThrough())

    @jax.jit
    def rounded(x):
        return quantizer.apply(x, {}, rounding, contract=contract, spec=spec)

    found, pull = jax.vjp(rounded, jnp.asarray(x))
    return np.asarray(found), np.asarray(pull(2 * jnp.ones_like(found))[0])


def test_weights():
    """Equations 1 to 3; the codes times the number by which they were divided."""
    w = RNG.normal(size=(24, 16)).astype(np.float32)
    found, gradient = pulled(Dynamic(AbsMean()), w, QuantSpec(Ternary()), (0,))
    divisor = np.mean(np.abs(np.float64(w))) + AbsMean().epsilon
    for got, value in zip(found.ravel(), np.float64(w).ravel(), strict=True):
        assert got == pytest.approx(divisor * min(max(np.rint(value / divisor), -1), 1), rel=1e-6)
    assert len(np.unique(found)) == 3
    np.testing.assert_array_equal(gradient, np.full(w.shape, 2))


def test_activations():
    """One scale for each token: the axis of the features is the one that the product sums over."""
    x = (RNG.normal(size=(2, 5, 32)) * np.array([0.01, 1, 10, 3, 100])[:, None]).astype(np.float32)
    found, gradient = pulled(Dynamic(AbsMax()), x, QuantSpec(Integer(8), Granularity.channel), (2,))
    for got, token in zip(found.reshape(-1, 32), np.float64(x).reshape(-1, 32), strict=True):
        scale = np.abs(token).max() / 127
        codes = np.array([min(max(np.rint(value / scale), -128), 127) for value in token])
        np.testing.assert_allclose(got, codes * scale, rtol=1e-5)
        assert np.abs(codes).max() == 127
    np.testing.assert_array_equal(gradient, np.full(x.shape, 2))
