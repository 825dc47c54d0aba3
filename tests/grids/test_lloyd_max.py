"""Levels of least squared error: Max's table for N(0, 1), the two conditions for others, and Lloyd's rounds on data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.grids.lloyd_max import Distribution, fit_levels, lloyd_max, optimal_levels

# The quantities of Max's Table I ("Quantizing for Minimum Distortion", 1960), in the digits of an independent
# computation: count, mean squared error, levels from zero upwards (None where they are not had).
GAUSSIAN = [
    (2, 0.36338, [0.7979]),
    (3, 0.19017, [0.0, 1.2240]),
    (4, 0.11748, [0.4528, 1.5104]),
    (5, 0.079941, [0.0, 0.7646, 1.7241]),
    (6, 0.057978, [0.3177, 1.0001, 1.8936]),
    (7, 0.044, [0.0, 0.5606, 1.1881, 2.0334]),
    (8, 0.034548, [0.2451, 0.7560, 1.3439, 2.1519]),
    (15, 0.010737, [0.0, 0.2739, 0.5548, 0.8511, 1.1749, 1.5461, 2.0065, 2.6809]),
    (16, 0.009501, [0.1284, 0.3880, 0.6568, 0.9423, 1.2562, 1.6180, 2.0690, 2.7326]),
    (32, 0.0025047, None),
    (36, 0.0019913, None),
]
DENSITIES = {
    Distribution.gaussian: lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    Distribution.laplace: lambda x: np.exp(-np.sqrt(2) * np.abs(x)) / np.sqrt(2),
}


def integral(distribution, reach=30.0, count=600_000):
    """Points, and the probability around each."""
    x = (np.arange(count) + 0.5) * (2 * reach / count) - reach
    return x, DENSITIES[distribution](x) * (2 * reach / count)


def nearest(x, levels):
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, x)


@pytest.mark.parametrize(("count", "mse", "nonnegative"), GAUSSIAN)
def test_max_1960(count, mse, nonnegative):
    levels = optimal_levels(count, Distribution.gaussian)
    assert levels.shape == (count,) and np.array_equal(levels, -levels[::-1])
    if nonnegative is not None:
        assert np.round(levels[levels >= 0], 4).tolist() == nonnegative
    x, weights = integral(Distribution.gaussian)
    found = np.sum(weights * (x - levels[nearest(x, levels)]) ** 2)
    digits = len(f"{mse:.10f}".rstrip("0")) - 2
    assert abs(found - mse) < 0.51 * 10.0**-digits


@pytest.mark.parametrize("distribution", Distribution)
@pytest.mark.parametrize("count", [2, 5, 16, 31])
def test_every_level_is_the_mean_of_its_cell(distribution, count):
    levels = optimal_levels(count, distribution)
    x, weights = integral(distribution)
    cells = nearest(x, levels)
    mass = np.bincount(cells, weights, count)
    np.testing.assert_allclose(np.bincount(cells, weights * x, count) / mass, levels, atol=2e-4)


@pytest.mark.parametrize("distribution", Distribution)
@pytest.mark.parametrize("count", [255, 256, 511])
def test_many_levels_settle(distribution, count):
    levels = optimal_levels(count, distribution)
    assert np.all(np.diff(levels) > 0) and np.all(np.diff(levels, 2)[count // 2 :] > 0)  # wider and wider apart


def test_two_levels_of_laplace_are_its_mean_magnitude():
    np.testing.assert_allclose(optimal_levels(2, Distribution.laplace), [-(0.5**0.5), 0.5**0.5], rtol=1e-12)


def test_the_grid():
    grid = lloyd_max(3)
    np.testing.assert_allclose(grid.levels, optimal_levels(8, Distribution.gaussian), rtol=1e-6)
    assert grid.bits == 3 and grid.describe() == "lloyd-max gaussian (8 levels)"
    unsigned = lloyd_max(2, Distribution.gaussian, signed=False)
    np.testing.assert_allclose(unsigned.levels, [0, 0.5606, 1.1881, 2.0334], atol=5e-5)
    for bits in (0, 9):
        with pytest.raises(ValueError, match=rf"^bits={bits} is outside 1\.\.8"):
            lloyd_max(bits)


fit = jax.jit(fit_levels)


def lloyd_in_numpy(groups, scales, levels):
    """Method I on lists of values, one value at a time."""
    for _ in range(2000):
        above, below = np.zeros(len(levels)), np.zeros(len(levels))
        for values, scale in zip(groups, scales, strict=True):
            for value in values:
                cell = np.argmin(np.abs(levels * scale - value))
                above[cell] += scale * value
                below[cell] += scale**2
        moved = np.where(below > 0, above / np.where(below > 0, below, 1), levels)
        if np.max(np.abs(moved - levels)) == 0:
            return levels
        levels = moved
    raise AssertionError("not settled")


def fitted(groups, scales, start):
    points = np.unique(np.concatenate(groups)).astype(np.float32)
    weights = np.array([[np.sum(values == point) for point in points] for values in groups], np.float32)
    return fit(jnp.stack([points, points]), jnp.asarray(weights), scales=jnp.float32(scales), start=jnp.float32(start))


@pytest.mark.parametrize("scales", [[1.0], [0.02, 1.7]])
def test_lloyds_rounds_against_a_slow_loop(scales):
    rng = np.random.default_rng(len(scales))
    groups = [np.round(scale * rng.laplace(size=150), 3).astype(np.float32) for scale in scales]
    start = np.array([-3.0, -1.0, -0.2, 0.4, 2.0])
    np.testing.assert_allclose(fitted(groups, scales, start), lloyd_in_numpy(groups, scales, start), rtol=2e-5)


def test_an_empty_cell_keeps_its_level():
    values = np.float32([0.0, 0.0, 0.5, 0.5, 1.0])
    assert fitted([values], [1.0], [-4.0, -2.0, 0.1, 0.6, 0.9]).tolist() == [-4.0, -2.0, 0.0, 0.5, 1.0]
    assert fitted([np.zeros(3, np.float32)], [1.0], [-1.0, 1.0]).tolist() == [0.0, 1.0]


def test_rare_values_are_not_lost():
    """One value among 10^8: in one running sum of float32 it would vanish."""
    points, weights = jnp.float32([-1.0, 0.0, 1.0, 7.0]), jnp.float32([[3e7, 4e7, 3e7, 1.0]])
    levels = fit(jnp.stack([points] * 2), weights, scales=jnp.ones(1), start=jnp.float32([-0.8, 0.3, 1.4, 5.0]))
    np.testing.assert_allclose(levels, [-1, 0, 1, 7], atol=1e-6)


def test_values_are_spread_over_their_bins():
    """Even mass from 0 to 1 in bins of unequal width: levels at 1/8, 3/8, 5/8, 7/8."""
    edges = jnp.float32([0, 0.1, 0.45, 0.5, 0.9, 1.0])
    levels = fit(
        jnp.stack([edges[:-1], edges[1:]]),
        jnp.diff(edges)[None] * 1000,
        scales=jnp.ones(1),
        start=jnp.float32([0.1, 0.2, 0.3, 0.4]),
    )
    np.testing.assert_allclose(levels, [0.125, 0.375, 0.625, 0.875], atol=1e-4)


@pytest.mark.parametrize("count", [8, 64])
def test_it_finds_maxs_levels_from_data_of_his_distribution(count):
    x, weights = integral(Distribution.gaussian, 6.0, 20_000)
    half, start = np.float32(6.0 / 20_000), jnp.linspace(-3, 3, count, dtype=jnp.float32)
    bins = jnp.stack([np.float32(x) - half, np.float32(x) + half])
    levels = fit(bins, jnp.float32(weights)[None], scales=jnp.ones(1), start=start)
    best = optimal_levels(count, Distribution.gaussian)
    errors = [np.sum(weights * (x - y[nearest(x, y)]) ** 2) for y in (np.float64(levels), best, np.float64(start))]
    assert errors[0] < 1.001 * errors[1] < errors[2]
    if count == 8:
        np.testing.assert_allclose(levels, best, atol=5e-4)
