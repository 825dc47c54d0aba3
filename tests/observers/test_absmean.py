"""The mean magnitude against the formulas of XNOR-Net and BitNet b1.58."""

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import round_to_grid
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.levels import Levels
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmean import AbsMean

W = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * np.float32([0.02, 1, 5])


def found(observer, x, spec):
    scale, zero_point = observer.resolve(observer.measure(jnp.asarray(x), contract=(0,), spec=spec), spec)
    assert zero_point is None
    return scale


def test_bitnets_ternary_weights():
    """Equations 1 to 3, one weight at a time."""
    gamma, spec = float(np.mean(np.abs(np.float64(W)))), QuantSpec(Ternary())
    scale = found(AbsMean(), W, spec)
    np.testing.assert_allclose(scale, [[gamma + 1e-5]], rtol=1e-6)
    codes = [[max(-1, min(1, round(float(w) / (gamma + 1e-5)))) for w in row] for row in W]
    assert np.array_equal(np.round(round_to_grid(jnp.asarray(W), scale, None, spec) / scale), codes)


def test_the_scale_of_least_squares_of_binary_filters():
    """XNOR-Net, equation 6: no other alpha is better, filter by filter."""
    spec = QuantSpec(Binary(), Granularity.channel)
    scale = np.asarray(found(AbsMean(epsilon=0.0), W, spec))
    np.testing.assert_allclose(scale, np.mean(np.abs(W), axis=0, keepdims=True), rtol=1e-6)
    squared = [np.sum((W - factor * scale * np.sign(W)) ** 2, axis=0) for factor in (1.0, 0.98, 1.02)]
    assert np.all(squared[0] < squared[1]) and np.all(squared[0] < squared[2])


def test_parts_of_unequal_size_make_the_whole():
    observer, spec = AbsMean(), QuantSpec(Ternary(), Granularity.channel)
    parts = [observer.measure(jnp.asarray(part), contract=(0,), spec=spec) for part in (W[:30], W[30:])]
    scale, _ = observer.resolve(observer.combine(*parts), spec)
    np.testing.assert_allclose(scale, found(observer, W, spec), rtol=1e-6)


@pytest.mark.parametrize(("epsilon", "scale"), [(0.0, 1.0), (1e-5, 1e-5)])
def test_zeros_have_a_scale(epsilon, scale):
    assert found(AbsMean(epsilon), np.zeros((4, 1)), QuantSpec(Ternary())) == np.float32(scale)


def test_what_it_takes():
    for grid in (
        Binary(),
        Ternary(),
        Integer(2, range=Range.narrow),
        Levels([-1.0, 0.0, 0.5, 1.0]),
        Integer(jnp.int32(8)),
    ):
        AbsMean().check(QuantSpec(grid))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Integer(4), r"^grid=int4: .*; use observer=mean_magnitude"),
        (Integer(2, zero_point=ZeroPoint.integer), r"^grid.zero_point: .*; use observer=minmax"),
    ],
)
def test_what_it_refuses(grid, message):
    with pytest.raises(ValueError, match=message):
        AbsMean().check(QuantSpec(grid))


@pytest.mark.parametrize("epsilon", [-1e-5, 1.0])
def test_a_wrong_epsilon(epsilon):
    with pytest.raises(ValueError, match=rf"^epsilon={epsilon} is outside \[0, 1\)"):
        AbsMean(epsilon)
