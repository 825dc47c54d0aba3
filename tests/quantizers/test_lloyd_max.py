"""Fitted levels: rounding to the nearest, by way of the spec's grid, and the gradient of its estimator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import broadcast_groups
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.levels import Levels
from qresearch.grids.lloyd_max import lloyd_max
from qresearch.grids.nf4 import nf4
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mse import MSE
from qresearch.observers.percentile import Percentile
from qresearch.quantizers.lloyd_max import LloydMax

QUANTIZER = LloydMax(Percentile(100.0))
CHANNEL = QuantSpec(lloyd_max(2), Granularity.channel)
X = np.random.default_rng(0).laplace(size=(300, 2)).astype(np.float32) * np.float32([1, 0.03])


@functools.partial(jax.jit, static_argnums=0)
def started(quantizer, x, spec):
    return quantizer.init(quantizer.observer.measure(x, contract=(0,), spec=spec), spec)


@jax.jit
def applied(x, qparams, spec, key=None):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough(), key=key)
    return QUANTIZER.apply(x, qparams, rounding, contract=(0,), spec=spec)


def levels_of(qparams, shape):
    """(level, *shape): every fitted level at every element."""
    scale = np.asarray(broadcast_groups(qparams["scale"], shape))
    return np.asarray(qparams["levels"]).reshape(-1, *[1] * len(shape)) * scale


def test_every_value_takes_the_nearest_fitted_level():
    qparams = started(QUANTIZER, X, CHANNEL)
    assert qparams["scale"].shape == (1, 2) and qparams["levels"].shape == (4,)
    levels = levels_of(qparams, X.shape)
    choice = np.argmin(np.abs(levels - X), axis=0)
    np.testing.assert_array_equal(applied(X, qparams, CHANNEL), np.take_along_axis(levels, choice[None], axis=0)[0])
    assert len(np.unique(choice)) == 4


@pytest.mark.parametrize("grid", [nf4(), Levels([-1.0, 0.0, 0.5, 0.6])], ids=lambda grid: grid.describe())
def test_the_fit_beats_the_grid_that_it_starts_from(grid):
    """With levels that do not move, it rounds as the grid does; those that move are better by a tenth at least."""
    spec = QuantSpec(grid, Granularity.channel)
    qparams = started(QUANTIZER, X, spec)
    plain = applied(X, qparams | {"levels": grid.levels}, spec)
    direct = fake_quantize(jnp.asarray(X), qparams["scale"], None, spec, ClippedStraightThrough())
    np.testing.assert_allclose(plain, direct, rtol=1e-6)
    fitted, own = (np.mean((X - np.asarray(x_hat)) ** 2) for x_hat in (applied(X, qparams, spec), direct))
    assert fitted < 0.9 * own


def test_the_fit_is_a_fixed_point():
    """Each level is the mean of the values that it rounds, in units of the scale and weighed by its square."""
    qparams = started(QUANTIZER, X, CHANNEL)
    scale, levels = np.asarray(qparams["scale"], np.float64), np.asarray(qparams["levels"], np.float64)
    codes = np.argmin(np.abs(levels[:, None, None] * scale[None] - X[None]), axis=0)
    for code, level in enumerate(levels):
        mine = codes == code
        mean = np.sum((X * scale)[mine]) / np.sum((np.ones_like(X) * scale**2)[mine])
        assert level == pytest.approx(mean, rel=5e-3)


def test_gaussian_levels_of_gaussian_data_stay():
    x = np.random.default_rng(1).normal(size=(20_000, 1)).astype(np.float32)
    spec = QuantSpec(lloyd_max(2))
    qparams = started(LloydMax(MSE()), x, spec)
    np.testing.assert_allclose(qparams["levels"] * qparams["scale"][0, 0], lloyd_max(2).levels, atol=0.03)


def test_the_gradient_is_that_of_clipped_straight_through():
    """1 between the outermost levels, 0 beyond them; scale and levels have none."""
    qparams = started(QUANTIZER, X, CHANNEL)
    levels = levels_of(qparams, X.shape)
    inside = (levels[0] < X) & (levels[-1] > X)
    cotangent = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    _, pull = jax.vjp(lambda x, qparams: applied(x, qparams, CHANNEL), jnp.asarray(X), qparams)
    dx, dqparams = pull(jnp.asarray(cotangent))
    assert np.array_equal(dx, np.where(inside, cotangent, 0)) and 0 < np.sum(~inside) < X.size / 2
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(dqparams))


def test_stochastic_rounding_keeps_the_mean():
    spec = QuantSpec(lloyd_max(2), rounding=Rounding.stochastic)
    qparams = {"scale": jnp.full((1, 1), 0.5), "levels": jnp.float32([-1.0, -0.1, 0.2, 2.0])}
    x = jnp.full((40_000, 1), 0.35)  # 0.7 in units of the scale: between 0.2 and 2.0
    rounded = applied(x, qparams, spec, jax.random.key(0))
    assert np.unique(rounded).tolist() == pytest.approx([0.1, 1.0]) and np.mean(rounded) == pytest.approx(
        0.35, abs=0.01
    )


def test_half_precision_keeps_its_dtype():
    qparams = started(QUANTIZER, X, CHANNEL)
    assert applied(jnp.asarray(X, jnp.bfloat16), qparams, CHANNEL).dtype == jnp.bfloat16


def test_nan_stays_and_infinity_is_clipped():
    qparams = started(QUANTIZER, X, CHANNEL)
    top = float(qparams["levels"][-1] * qparams["scale"][0, 0])
    found = np.asarray(applied(jnp.float32([[jnp.nan, jnp.inf], [jnp.inf, 0]]), qparams, CHANNEL))
    assert np.isnan(found[0, 0]) and found[1, 0] == np.float32(top) and np.all(np.isfinite(found[:, 1]))


def test_zeros():
    qparams = started(QUANTIZER, np.zeros_like(X), CHANNEL)
    assert np.all(applied(np.zeros_like(X), qparams, CHANNEL) == 0) and np.all(np.isfinite(qparams["levels"]))


@pytest.mark.parametrize(
    ("observer", "grid", "message"),
    [
        (MSE(), Integer(4), r"^grid=int4: .*; use format=lloyd_max"),
        (AbsMax(), lloyd_max(4), r"^observer=AbsMax keeps no histogram .*; use observer=mse or percentile"),
    ],
)
def test_refusals(observer, grid, message):
    with pytest.raises(ValueError, match=message):
        LloydMax(observer).check(QuantSpec(grid))


def test_what_it_takes():
    for observer in (MSE(), Percentile()):
        LloydMax(observer).check(QuantSpec(nf4(), Granularity.block, 32))
