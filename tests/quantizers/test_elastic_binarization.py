"""Elastic binarization against the authors' form (BiT, 2022; ParetoQ, 2025), written out in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmean import AbsMean
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.elastic_binarization import ElasticBinarization

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
G = RNG.normal(size=(12, 3)).astype(np.float32)
SPECS = {"tensor": QuantSpec(Binary()), "channel": QuantSpec(Binary(), Granularity.channel)}


def found(x, scale, spec, samples=1):
    """(x_hat, dx, dscale)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    def rounded(x, scale):
        apply = ElasticBinarization(AbsMean()).apply
        return apply(x, {"scale": scale}, rounding, contract=(0,), spec=spec, samples=samples)

    value, pull = jax.vjp(jax.jit(rounded), jnp.asarray(x), jnp.asarray(scale))
    return value, *pull(jnp.asarray(G))


@pytest.mark.parametrize("name", SPECS)
def test_against_the_authors(name):
    """The sign of a binarized value times its gradient goes to the scale; the clip of x takes no part in that."""
    scale = np.float32([[0.7]]) if name == "tensor" else np.float32([[0.3, 0.8, 1.4]])
    value, dx, ds = found(X, scale, SPECS[name])
    sign = np.where(X < 0, -1, 1)
    np.testing.assert_array_equal(value, sign * scale)
    np.testing.assert_array_equal(dx, np.where(np.abs(X) <= scale, G, 0))
    shared = {"tensor": (sign * G).sum(keepdims=True), "channel": (sign * G).sum(axis=0, keepdims=True)}
    n = X.size / scale.size
    np.testing.assert_allclose(ds, shared[name] / np.sqrt(n), rtol=1e-5, atol=1e-6)


def test_n_counts_one_sample_of_an_activation():
    scale = np.ones((1, 1), np.float32)
    alone, of_four = (found(X, scale, SPECS["tensor"], samples)[2] for samples in (1, 4))
    np.testing.assert_allclose(of_four, 2 * alone, rtol=1e-6)


def test_a_scale_below_zero_stays_small_and_can_come_back():
    """The authors hold it at 1e-5, and still pass its gradient."""
    value, _, ds = found(X, np.float32([[-0.2]]), SPECS["tensor"])
    np.testing.assert_allclose(value, np.where(X < 0, -1e-5, 1e-5), rtol=1e-6)
    expected = (np.where(X < 0, -1, 1) * G).sum() / np.sqrt(X.size)
    np.testing.assert_allclose(ds, [[expected]], rtol=1e-5)


@pytest.mark.parametrize(("observer", "factor"), [(AbsMean(epsilon=0.0), 1), (MeanMagnitude(), 2)])
def test_the_starts_of_both_papers(observer, factor):
    spec = SPECS["channel"]
    qparams = ElasticBinarization(observer).init(observer.measure(jnp.asarray(X), contract=(0,), spec=spec), spec)
    assert set(qparams) == {"scale"}
    np.testing.assert_allclose(qparams["scale"][0], factor * np.abs(X).mean(axis=0), rtol=1e-6)


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match=r"^quantizer=elastic_binarization with grid=mid-rise2.*use format=binary"):
        ElasticBinarization(AbsMean()).check(QuantSpec(MidRise(2)))
