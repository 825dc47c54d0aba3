"""LSQ+ against the paper: Bhalgat et al., "LSQ+", 2020, arXiv:2004.09576, equations 1 to 8."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import MARGIN, fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.minifloat import MiniFloat
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.lsq_plus import LSQPlus

GRID = np.linspace(-6.31, 6.37, 127).astype(np.float32)


def free(bits, *, signed=False):
    return QuantSpec(Integer(bits, zero_point=ZeroPoint.float, signed=signed))


def applied(quantizer, x, qparams, spec, **options):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())
    return quantizer.apply(x, qparams, rounding, contract=(0,), spec=spec, **options)


def slopes(v, s, beta, spec):
    """(x_hat, dx, ds, dbeta) of every value alone, so that the damping is 1 / sqrt(p)."""

    def one(x, s, beta):
        qparams = {"scale": s.reshape(1, 1), "beta": beta.reshape(1, 1)}
        return applied(LSQPlus(MinMax()), x.reshape(1, 1), qparams, spec)[0, 0]

    found = jax.vmap(jax.value_and_grad(one, argnums=(0, 1, 2)), in_axes=(0, None, None))
    value, gradients = jax.jit(found)(jnp.asarray(v), jnp.float32(s), jnp.float32(beta))
    return np.asarray(value), *map(np.asarray, gradients)


def paper(x, s, beta, n, p):
    """x_hat of equations 3 and 4; its derivatives by x, s and beta, equations 5 and 6."""
    v = (x - beta) / s
    x_hat = np.rint(min(max(v, n), p)) * s + beta
    if v <= n:
        return x_hat, 0, n, 1
    if v >= p:
        return x_hat, 0, p, 1
    return x_hat, 1, np.rint(v) - v, 0


@pytest.mark.parametrize(("bits", "signed", "n", "p"), [(2, False, 0, 3), (3, False, 0, 7), (3, True, -4, 3)])
@pytest.mark.parametrize(("s", "beta"), [(0.83, -1.17), (0.31, 0.52), (1.5, 0.0)])
def test_values_and_gradients(bits, signed, n, p, s, beta):
    v = (np.float64(GRID) - beta) / s
    away = np.abs(v - np.floor(v) - 0.5) > 1e-4  # from ties
    for bound in (n, p):
        away &= np.abs(v - bound) > 2 * MARGIN * (p - n)
    found = slopes(GRID[away], s, beta, free(bits, signed=signed))
    expected = np.array([paper(x, np.float64(np.float32(s)), beta, n, p) for x in np.float64(GRID[away])]).T
    damp = np.sqrt(p)
    for got, want, factor in zip(found, expected, (1, 1, damp, damp), strict=True):
        np.testing.assert_allclose(got * factor, want, rtol=1e-5, atol=1e-5)
    assert away.sum() > 100 and set(np.unique(expected[3])) == {0, 1}


def test_a_value_on_the_bound_counts_as_inside():
    value, dx, ds, dbeta = slopes(np.float32([0.25, 1.75]), 0.5, 0.25, free(2))
    np.testing.assert_array_equal(value, [0.25, 1.75])
    np.testing.assert_array_equal([dx, ds, dbeta], [[1, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize(("samples", "features"), [(1, 40), (8, 5)])
def test_both_gradients_are_damped_as_those_of_lsq(samples, features):
    x, spec = jnp.full((8, 5), 100.0), free(3)  # all clipped: each adds p to the scale and 1 to the offset

    def total(qparams):
        return jnp.sum(applied(LSQPlus(MinMax()), x, qparams, spec, samples=samples))

    found = jax.grad(total)({"scale": jnp.ones((1, 1)), "beta": jnp.zeros((1, 1))})
    assert found["scale"].item() == pytest.approx(40 * 7 / np.sqrt(features * 7))
    assert found["beta"].item() == pytest.approx(40 / np.sqrt(features * 7))


def test_it_starts_at_the_observers_range():
    x, spec = jnp.asarray(GRID[20:].reshape(-1, 1)), free(4)
    observer = MinMax()
    qparams = LSQPlus(observer).init(observer.measure(x, contract=(0,), spec=spec), spec)
    np.testing.assert_allclose(qparams["beta"], [[GRID[20]]], rtol=1e-6)
    np.testing.assert_allclose(qparams["scale"], [[(GRID[-1] - GRID[20]) / 15]], rtol=1e-6)


def test_without_a_zero_point_it_is_lsq():
    spec, x = QuantSpec(Integer(3)), jnp.asarray(GRID.reshape(-1, 1))
    qparams = {"scale": jnp.full((1, 1), 0.7)}
    observer = AbsMax()
    assert set(LSQPlus(observer).init(observer.measure(x, contract=(0,), spec=spec), spec)) == {"scale"}
    ours, theirs = (
        jax.value_and_grad(lambda qparams: jnp.sum(applied(quantizer, x, qparams, spec) ** 2))(qparams)  # noqa: B023
        for quantizer in (LSQPlus(observer), LSQ(observer))
    )
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1]["scale"], theirs[1]["scale"])


def test_the_offset_holds_with_a_scale_of_another_format():
    """The zero point is counted in steps of the scale that is used, so the lowest level stays at beta."""
    grid = Integer(2, zero_point=ZeroPoint.float, signed=False)
    spec = QuantSpec(grid, scale_format="power_of_two", scale_rule="nearest")
    qparams = {"scale": jnp.full((1, 1), 0.8), "beta": jnp.full((1, 1), -0.75)}
    found = applied(LSQPlus(MinMax()), jnp.asarray([[-9.0], [9.0]]), qparams, spec)
    np.testing.assert_array_equal(found, [[-0.75], [2.25]])


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (Integer(3, zero_point=ZeroPoint.integer), r"^zero_point=integer: LSQ\+ .* use zero_point=float, or"),
        (MiniFloat(2, 1), r"^grid=.*: LSQ\+ learns the step of a grid of equal steps"),
    ],
)
def test_what_it_refuses(grid, match):
    with pytest.raises(ValueError, match=match):
        LSQPlus(MinMax()).check(QuantSpec(grid))


def test_what_it_takes():
    for grid in (Integer(3), Integer(3, zero_point=ZeroPoint.float), Binary()):
        LSQPlus(MinMax()).check(QuantSpec(grid))
