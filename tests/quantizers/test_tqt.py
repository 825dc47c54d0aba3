"""Trained thresholds against the paper: Jain et al., "Trained Quantization Thresholds", 2019, arXiv:1903.08066."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.ternary import Ternary
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.tqt import TQT, log2, power_of_ceil

GRID = np.linspace(-5.13, 5.21, 129).astype(np.float32)


def slopes(v, log2_t, spec):
    """(x_hat, dx, dlog2_t) of every value alone."""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    def one(x, log2_t):
        qparams = {"log2_threshold": log2_t.reshape(1, 1)}
        return TQT(AbsMax()).apply(x.reshape(1, 1), qparams, rounding, contract=(0,), spec=spec)[0, 0]

    found = jax.vmap(jax.value_and_grad(one, argnums=(0, 1)), in_axes=(0, None))
    value, gradients = jax.jit(found)(jnp.asarray(v), jnp.float32(log2_t))
    return np.asarray(value), *map(np.asarray, gradients)


def paper(x, log2_t, bits, *, signed):
    """Equations 4, 7 and 8; None in the half steps beyond the ends, which count as inside there alone."""
    n, p = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    s = 2.0 ** math.ceil(log2_t) / 2 ** (bits - 1 if signed else bits)
    q = np.rint(x / s)
    x_hat, factor = min(max(q, n), p) * s, s * math.log(2)
    if q < n or q > p:
        return x_hat, 0, factor * (n if q < n else p)
    if n <= x / s <= p:
        return x_hat, 1, factor * (q - x / s)
    return x_hat, 0, factor * (n if x / s < n else p)  # ours: the gradient of the clip


@pytest.mark.parametrize("log2_t", [-0.4, 0.0, 0.3, 1.7])
@pytest.mark.parametrize(("bits", "signed"), [(2, True), (3, True), (3, False), (4, False)])
def test_values_and_gradients(log2_t, bits, signed):
    found = slopes(GRID, log2_t, QuantSpec(Integer(bits, signed=signed)))
    expected = np.array([paper(x, log2_t, bits, signed=signed) for x in np.float64(GRID)]).T
    np.testing.assert_array_equal(found[:2], expected[:2])
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-5, atol=1e-6)
    assert {0, 1} == set(expected[1])


def test_a_value_on_the_bound_counts_as_inside():
    """As in the paper: round(x / s) is n or p."""
    _, dx, slope = slopes(np.float32([-2, 1.5, -2.01, 1.51]), 1.0, QuantSpec(Integer(3)))
    np.testing.assert_array_equal(dx, [1, 1, 0, 0])
    np.testing.assert_allclose(slope, 0.5 * math.log(2) * np.array([0, 0, -4, 3]), rtol=1e-6)


def test_powers_of_two_are_exact_and_so_is_the_way_back():
    exponents = np.arange(-90, 91).astype(np.float32)
    powers = np.float32(2.0) ** exponents
    np.testing.assert_array_equal(jax.jit(power_of_ceil)(exponents), powers)
    np.testing.assert_array_equal(jax.jit(log2)(powers), exponents)
    np.testing.assert_array_equal(jax.jit(power_of_ceil)(exponents - 0.5), powers)
    np.testing.assert_allclose(log2(jnp.float32([3.0, 0.7])), np.log2([3.0, 0.7]), rtol=1e-6)


@pytest.mark.parametrize(("largest", "scale"), [(3.0, 0.5), (3.5, 0.5), (3.6, 1.0)])
def test_it_starts_at_the_observers_scale_rounded_up(largest, scale):
    """absmax gives largest / 7, so that 3.5 has the scale 0.5 and the threshold 4 exactly."""
    observer, spec = AbsMax(), QuantSpec(Integer(4))
    qparams = TQT(observer).init(observer.measure(jnp.full((3, 1), largest), contract=(0,), spec=spec), spec)
    assert qparams["log2_threshold"].item() == pytest.approx(math.log2(largest * 8 / 7))
    seen = []
    TQT(observer).apply(jnp.ones((3, 1)), qparams, lambda x, s, z: seen.append(s) or x, contract=(0,), spec=spec)
    assert seen[0].item() == scale


@pytest.mark.parametrize("grid", [Ternary(), Integer(4, zero_point=ZeroPoint.integer)])
def test_what_it_refuses(grid):
    with pytest.raises(ValueError, match=r"^grid=.*: TQT.* use format=int with grid.zero_point=none"):
        TQT(AbsMax()).check(QuantSpec(grid))
