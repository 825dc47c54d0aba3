"""The learned clip on normalised weights against the authors' form: Li, Dong, Wang, ICLR 2020, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.levels import Levels
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.apot import APoT

RNG = np.random.default_rng(0)
MAGNITUDES = np.array([0, 1, 2, 3, 4, 6, 8, 10]) / 10  # sums of {0, 1, 2, 4} / 10 and {0, 2, 6} / 10, some of them
SIGNED = Levels(np.concatenate([-MAGNITUDES[:0:-1], MAGNITUDES]).tolist())
UNSIGNED = Levels(MAGNITUDES.tolist())
X = RNG.standard_t(4, size=(40, 3)).astype(np.float32)
G = RNG.normal(size=X.shape).astype(np.float32)


def nearest(v, levels):
    return np.array([levels[np.argmin(np.abs(levels - one))] for one in v.ravel()]).reshape(v.shape)


def found(x, scale, spec, quantizer):
    """(x_hat, dx, dscale)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    def rounded(x, scale):
        return quantizer.apply(x, {"scale": scale}, rounding, contract=(0,), spec=spec)

    value, pull = jax.vjp(jax.jit(rounded), jnp.asarray(x), jnp.asarray(scale, jnp.float32))
    return (np.asarray(part) for part in (value, *pull(jnp.asarray(G))))


@pytest.mark.parametrize("alpha", [0.8, 1.7])
def test_weights_against_the_authors(alpha):
    """Normalised by the mean and the standard deviation of the tensor, both without a gradient."""
    value, dx, ds = found(X, [[alpha]], QuantSpec(SIGNED), APoT(AbsMax()))
    w, std = np.float64(X), np.std(np.float64(X), ddof=1)
    v = (w - w.mean()) / std / alpha
    q = np.sign(v) * nearest(np.clip(np.abs(v), 0, 1), MAGNITUDES)
    np.testing.assert_allclose(value, alpha * q, atol=1e-6)
    outside = np.abs(v) > 1
    np.testing.assert_allclose(dx, np.where(outside, 0, G) / std, rtol=1e-5)
    np.testing.assert_allclose(ds, [[np.sum(G * np.where(outside, np.sign(v), q - v))]], rtol=1e-4, atol=1e-4)
    assert 0 < np.mean(outside) < 0.6


def test_activations_are_taken_as_they_are():
    x = np.abs(X)
    value, dx, ds = found(x, [[2.0]], QuantSpec(UNSIGNED), APoT(AbsMax(), 8.0, False))
    v = np.float64(x) / 2
    q = nearest(np.clip(v, 0, 1), MAGNITUDES)
    np.testing.assert_allclose(value, 2 * q, atol=1e-6)
    np.testing.assert_array_equal(dx, np.where(v > 1, 0, G))
    np.testing.assert_allclose(ds, [[np.sum(G * np.where(v > 1, 1, q - v))]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("grid", "largest"), [(SIGNED, 1), (Integer(3), 3)], ids=["levels", "int3"])
def test_the_start(grid, largest):
    spec = QuantSpec(grid, Granularity.channel)
    statistic = AbsMax().measure(jnp.asarray(X), contract=(0,), spec=spec)
    np.testing.assert_allclose(APoT(AbsMax()).init(statistic, spec)["scale"], np.full((1, 3), 3 / largest), rtol=1e-6)
    np.testing.assert_allclose(APoT(AbsMax(), 8.0).init(statistic, spec)["scale"], np.full((1, 3), 8 / largest))


def test_equal_weights_become_zero():
    value, dx, _ = found(np.full_like(X, 0.5), [[3.0]], QuantSpec(SIGNED), APoT(AbsMax()))
    assert np.max(np.abs(value)) < 1e-6 and np.all(np.isfinite(dx))


def test_refusals():
    with pytest.raises(ValueError, match=r"^quantizer=apot with grid=.*no zero point"):
        APoT(AbsMax()).check(QuantSpec(Integer(4, ZeroPoint.integer)))
    with pytest.raises(ValueError, match=r"^alpha=0 must be above zero"):
        APoT(AbsMax(), 0)
