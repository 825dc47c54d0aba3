"""DSQ against the paper: Gong et al., "Differentiable Soft Quantization", ICCV 2019, arXiv:1908.05033."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.quantizers.dsq import DSQ, soft_quantize

POINTS = np.linspace(-2.93, 3.07, 83).astype(np.float32)
FREE = Integer(2, zero_point=ZeroPoint.float, signed=False)


def soft(x, lower, upper, alpha, steps):
    """Q_S of one value, by the definitions in their order."""
    if x < lower or x > upper:
        return lower if x < lower else upper
    delta = (upper - lower) / steps
    i = min(math.floor((x - lower) / delta), steps - 1)
    middle = lower + (i + 0.5) * delta
    k = math.log(2 / alpha - 1) / delta
    phi = math.tanh(k * (x - middle)) / math.tanh(0.5 * k * delta)
    return lower + delta * (i + (phi + 1) / 2)


def hard(x, lower, upper, steps):
    delta = (upper - lower) / steps
    return lower + delta * round((min(max(x, lower), upper) - lower) / delta)


def logit(alpha):
    return math.log(2 * alpha / (1 - 2 * alpha))


def slopes(qparams, spec, x=POINTS):
    """The rounded values, and the derivative of each by x and by every number of the quantizer."""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    def one(x, qparams):
        return DSQ(AbsMax()).apply(x.reshape(1, 1), qparams, rounding, contract=(0,), spec=spec)[0, 0]

    qparams = {name: jnp.full((1, 1), value, jnp.float32) for name, value in qparams.items()}
    found = jax.jit(jax.vmap(jax.value_and_grad(one, argnums=(0, 1)), in_axes=(0, None)))
    value, (dx, dqparams) = found(jnp.asarray(x), qparams)
    return np.asarray(value), np.asarray(dx), {name: np.asarray(d).ravel() for name, d in dqparams.items()}


def difference(function, *arguments, at, step=1e-6):
    """The central difference of a function by its argument number `at`."""
    up, down = list(arguments), list(arguments)
    up[at] += step
    down[at] -= step
    return (function(*up) - function(*down)) / (2 * step)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.45])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_soft_function_and_its_derivatives(alpha, steps):
    lower, upper = -1.7, 2.3

    def ours(x, lower, upper, alpha):
        return soft_quantize(x, lower, (upper - lower) / steps, alpha, jnp.float32(steps))

    by_all = jax.jit(jax.vmap(jax.value_and_grad(ours, argnums=(0, 1, 2, 3)), in_axes=(0, None, None, None)))
    values, gradients = by_all(jnp.asarray(POINTS), *map(jnp.float32, (lower, upper, alpha)))
    for number, x in enumerate(np.float64(POINTS)):
        exact = (x, lower, upper, alpha)
        assert values[number] == pytest.approx(soft(*exact, steps), abs=2e-6)
        for at, gradient in enumerate(gradients):
            expected = difference(lambda *arguments: soft(*arguments, steps), *exact, at=at)
            assert gradient[number] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_soft_function_meets_the_levels_and_the_middles_and_sharpens():
    """tanh(k D / 2) is 1 - alpha, which is how k follows from alpha; as alpha falls, a piece becomes a step."""
    at = jnp.asarray([0.0, 1.0, 2.0, 3.0, 0.5, 1.5])
    found = soft_quantize(at, *map(jnp.float32, (0, 1, 0.2)), jnp.float32(3))
    np.testing.assert_allclose(found, at, atol=1e-6)
    assert math.tanh(0.5 * math.log(2 / 0.2 - 1)) == pytest.approx(1 - 0.2)
    sharp = soft_quantize(jnp.float32(0.4), *map(jnp.float32, (0, 1, 1e-6)), jnp.float32(3))
    assert 0 < sharp < 0.06


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_free_clip_levels(alpha):
    """Forward the hard quantizer, backward the soft function: equations of sections 3.2 to 3.4."""
    lower, upper, steps = -1.7, 2.3, 3
    value, dx, d = slopes({"softness": logit(alpha), "lower": lower, "upper": upper}, QuantSpec(FREE))
    for number, x in enumerate(np.float64(POINTS)):
        assert value[number] == pytest.approx(hard(x, lower, upper, steps), abs=2e-6)
        found = (dx[number], d["lower"][number], d["upper"][number])
        for at, gradient in enumerate(found):
            expected = difference(lambda *arguments: soft(*arguments, alpha, steps), x, lower, upper, at=at)
            assert gradient == pytest.approx(expected, rel=1e-3, abs=1e-4)
        by_alpha = difference(lambda alpha, x=x: soft(x, lower, upper, alpha, steps), alpha, at=0)
        assert d["softness"][number] == pytest.approx(by_alpha * alpha * (1 - 2 * alpha), rel=1e-3, abs=1e-4)
    assert {d["lower"][0], d["upper"][-1]} == {1}


@pytest.mark.parametrize(
    ("grid", "lower", "steps"),
    [
        (MidRise(2), -2.1, 3),
        (Integer(3, range=Range.narrow), -2.1, 6),
        (Integer(3), -2.8, 7),
        (Integer(2, signed=False), 0.0, 3),
        (Binary(), -2.1, 1),
    ],
    ids=lambda value: value.describe() if hasattr(value, "describe") else None,
)
def test_tied_clip_levels(grid, lower, steps):
    """The lower one is the upper one times the proportion of the grid's ends."""
    upper, alpha, share = 2.1, 0.2, lower / 2.1
    value, dx, d = slopes({"softness": logit(alpha), "upper": upper}, QuantSpec(grid))
    for number, x in enumerate(np.float64(POINTS)):
        assert value[number] == pytest.approx(hard(x, lower, upper, steps), abs=2e-6)
        by_x = difference(lambda x: soft(x, lower, upper, alpha, steps), x, at=0)
        by_upper = difference(lambda upper, x=x: soft(x, share * upper, upper, alpha, steps), upper, at=0)
        assert dx[number] == pytest.approx(by_x, rel=1e-3, abs=1e-4)
        assert d["upper"][number] == pytest.approx(by_upper, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("softness", [-30.0, 0.0, 30.0])
def test_alpha_stays_within_its_bounds(softness):
    """At 0 the pieces are steps, at 1/2 they are flattest; both ends are finite."""
    value, dx, d = slopes({"softness": softness, "lower": -1.7, "upper": 2.3}, QuantSpec(FREE))
    assert all(np.all(np.isfinite(found)) for found in (value, dx, *d.values()))


def test_infinity_and_nan():
    infinite = np.float32([np.nan, np.inf, -np.inf])
    value, dx, d = slopes({"softness": 0.0, "lower": -1.75, "upper": 2.25}, QuantSpec(FREE), infinite)
    np.testing.assert_array_equal(value, [np.nan, 2.25, -1.75])
    np.testing.assert_array_equal(dx[1:], [0, 0])
    np.testing.assert_allclose([d["lower"][1:], d["upper"][1:]], [[0, 1], [1, 0]], atol=1e-6)


@pytest.mark.parametrize(("grid", "observer"), [(FREE, MinMax()), (Integer(4), AbsMax())])
def test_it_starts_at_the_observers_range(grid, observer):
    spec, x = QuantSpec(grid), jnp.asarray([[-0.5], [2.1]])
    qparams = DSQ(observer, alpha=0.3).init(observer.measure(x, contract=(0,), spec=spec), spec)
    assert qparams["upper"].item() == pytest.approx(2.1)
    assert 0.5 / (1 + math.exp(-qparams["softness"].item())) == pytest.approx(0.3)
    if grid is FREE:
        assert qparams["lower"].item() == pytest.approx(-0.5)
    else:
        assert set(qparams) == {"softness", "upper"}


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (MiniFloat(2, 1), "^grid=.*: DSQ needs equal steps"),
        (Integer(4, zero_point=ZeroPoint.integer), "^zero_point=integer: .* use zero_point=float"),
    ],
)
def test_what_it_refuses(grid, match):
    with pytest.raises(ValueError, match=match):
        DSQ(AbsMax()).check(QuantSpec(grid))


@pytest.mark.parametrize("alpha", [0, 0.5, -0.1])
def test_an_alpha_outside_its_bounds_is_refused(alpha):
    with pytest.raises(ValueError, match=r"is outside \(0, 0.5\)"):
        DSQ(AbsMax(), alpha=alpha)
