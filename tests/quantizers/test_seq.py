"""Stretched elastic quantization against the authors' form (ParetoQ, 2025), one element at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.seq import SEQ

RNG = np.random.default_rng(0)
X = np.linspace(-2.3, 2.3, 96).reshape(32, 3).astype(np.float32)
G = RNG.normal(size=X.shape).astype(np.float32)
GRIDS = {"ternary": (Ternary(), 1.5, 0.0), "two bits": (MidRise(2), 2.0, 0.5), "three bits": (MidRise(3), 4.0, 0.5)}


def authors(w, alpha, n, shift):
    """(w_hat, dw / g, dalpha / g)"""
    v = w / alpha
    level = (np.rint(min(max(v, -0.99), 0.99) * n - shift) + shift) / n
    outermost = (n - shift) / n if shift else 1 / n  # of three levels: 1 / 1.5
    if v < -0.99:
        return level * alpha, 0.0, -outermost
    if v > 0.99:
        return level * alpha, 0.0, outermost
    return level * alpha, 1.0, level - v


def found(scale, spec):
    """(w_hat, dw, dscale)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=StraightThrough())

    def rounded(x, scale):
        return SEQ(AbsMax()).apply(x, {"scale": scale}, rounding, contract=(0,), spec=spec)

    value, pull = jax.vjp(jax.jit(rounded), jnp.asarray(X), jnp.asarray(scale, jnp.float32))
    return value, *pull(jnp.asarray(G))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("granularity", [Granularity.tensor, Granularity.channel])
def test_against_the_authors(name, granularity):
    grid, n, shift = GRIDS[name]
    spec = QuantSpec(grid, granularity)
    alpha = np.float64([[1.31]] if granularity is Granularity.tensor else [[0.93, 1.31, 2.17]])
    value, dx, ds = found(alpha / n, spec)
    pairs = zip(X.ravel(), np.broadcast_to(alpha, X.shape).ravel(), strict=True)
    each = [authors(float(w), float(a), n, shift) for w, a in pairs]
    expected, dw, da = (np.reshape(part, X.shape) for part in zip(*each, strict=True))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(dx, G * dw)
    assert 0 in dw and np.count_nonzero(dw) > X.size / 3
    # A step of plain gradient descent on the scale moves alpha = n * scale as the authors' does.
    axes = (0, 1) if granularity is Granularity.tensor else 0
    largest = {"ternary": 1, "two bits": 1, "three bits": 3}[name]
    expected = (G * da).sum(axis=axes, keepdims=True) / np.sqrt(X.size / alpha.size * largest)
    np.testing.assert_allclose(n * np.asarray(ds), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRIDS)
def test_the_range_starts_at_the_largest_magnitude(name):
    grid, n, _ = GRIDS[name]
    spec = QuantSpec(grid, Granularity.channel)
    scale = SEQ(AbsMax()).init(AbsMax().measure(jnp.asarray(X), contract=(0,), spec=spec), spec)["scale"]
    assert scale.shape == scale_shape(X.shape, contract=(0,), spec=spec)
    np.testing.assert_allclose(n * scale[0], np.abs(X).max(axis=0), rtol=1e-6)


def test_the_two_bit_levels_are_equally_full_for_equally_spread_weights():
    """What the stretch is for: four levels take a quarter each, where a grid with a zero leaves one half empty."""
    value, *_ = found([[2.3 / 2]], QuantSpec(MidRise(2)))
    levels, counts = np.unique(np.asarray(value), return_counts=True)
    np.testing.assert_allclose(levels, np.float32([-0.75, -0.25, 0.25, 0.75]) * 2.3, rtol=1e-6)
    assert set(counts) == {24}


def test_a_scale_below_zero_stays_small_and_can_come_back():
    value, _, ds = found([[-0.1]], QuantSpec(MidRise(2)))
    assert np.max(np.abs(value)) == pytest.approx(1.5e-5, rel=1e-5)
    assert np.all(np.isfinite(ds)) and np.all(ds != 0)


def test_refusals():
    with pytest.raises(ValueError, match=r"^quantizer=seq with grid=int4.*use format=mid_rise"):
        SEQ(AbsMax()).check(QuantSpec(Integer(4)))
    with pytest.raises(ValueError, match=r"^quantizer=seq with one bit"):
        SEQ(AbsMax()).check(QuantSpec(MidRise(1)))
