"""DoReFa's weights against the paper: Zhou et al., "DoReFa-Net", 2016, arXiv:1606.06160, equations 7 to 9."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dorefa_weight import DoReFaWeight

RNG = np.random.default_rng(0)
W, COTANGENT = (RNG.normal(size=(9, 4)).astype(np.float32) for _ in range(2))


def applied(w, spec):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=StraightThrough())
    return DoReFaWeight(AbsMax()).apply(w, {}, rounding, contract=(0,), spec=spec)


def pulled(w, spec):
    rounded, pull = jax.vjp(jax.jit(lambda w: applied(w, spec)), jnp.asarray(w))
    return np.asarray(rounded), np.asarray(pull(jnp.asarray(COTANGENT))[0])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_equation_9(bits):
    found, _ = pulled(W, QuantSpec(MidRise(bits)))
    steps, largest = 2**bits - 1, np.abs(np.tanh(np.float64(W))).max()
    for got, w in zip(found.ravel(), np.float64(W).ravel(), strict=True):
        share = np.tanh(w) / (2 * largest) + 0.5
        assert got == pytest.approx(2 * np.rint(steps * share) / steps - 1, abs=1e-6)
    assert np.abs(found).max() == pytest.approx(1)


def test_the_gradient_goes_through_tanh_and_the_maximum():
    """t_i = tanh(w_i) / M with M = |tanh(w_k)|: dt_i/dw_j = (1 - tanh(w_j)^2) (d_ij - t_i sign(w_k) d_jk) / M."""
    _, found = pulled(W, QuantSpec(MidRise(3)))
    w, g = np.float64(W).ravel(), np.float64(COTANGENT).ravel()
    t, slope, k = np.tanh(w), 1 - np.tanh(w) ** 2, np.argmax(np.abs(w))
    largest = abs(t[k])
    expected = g * slope / largest
    expected[k] -= np.sum(g * t / largest) * np.sign(w[k]) * slope[k] / largest
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_each_channel_has_its_own_maximum():
    found, _ = pulled(W, QuantSpec(MidRise(2), Granularity.channel))
    t = np.tanh(W) / np.abs(np.tanh(W)).max(axis=0)
    np.testing.assert_allclose(found, 2 * np.rint(3 * (t / 2 + 0.5)) / 3 - 1, atol=1e-6)


@pytest.mark.parametrize(("granularity", "axis"), [(Granularity.tensor, None), (Granularity.channel, 0)])
def test_one_bit(granularity, axis):
    """Equations 7 and 8: the sign times the mean magnitude; the gradient passes whole."""
    found, gradient = pulled(W, QuantSpec(Binary(), granularity))
    np.testing.assert_allclose(found, np.sign(W) * np.abs(W).mean(axis=axis), rtol=1e-6)
    np.testing.assert_array_equal(gradient, COTANGENT)


@pytest.mark.parametrize("grid", [MidRise(2), Binary()], ids=lambda grid: grid.describe())
def test_a_channel_of_zeros_stays_finite(grid):
    w = W.copy()
    w[:, 1] = 0
    assert all(np.all(np.isfinite(found)) for found in pulled(w, QuantSpec(grid, Granularity.channel)))


def test_a_swept_width_is_the_same():
    bits = jnp.asarray([2, 4], jnp.int32)
    found = jax.jit(jax.vmap(lambda bits: applied(jnp.asarray(W), QuantSpec(MidRise(bits)))))(bits)
    for width, values in zip((2, 4), found, strict=True):
        np.testing.assert_allclose(values, pulled(W, QuantSpec(MidRise(width)))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (Integer(4), r"^grid=int4: .* format=mid_rise, and of format=binary"),
        (MidRise(1), r"^bits=1: .* use format=binary"),
    ],
)
def test_what_it_refuses(grid, match):
    with pytest.raises(ValueError, match=match):
        DoReFaWeight(AbsMax()).check(QuantSpec(grid))


def test_what_it_takes():
    for grid in (MidRise(2), MidRise(jnp.int32(1)), Binary()):
        DoReFaWeight(AbsMax()).check(QuantSpec(grid))
