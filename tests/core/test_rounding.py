"""Every rounding against a slow loop over numbers: ties, negative ones, whole ones, and what is no number."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.rounding import Rounding, round_to_whole

HALVES = np.arange(-9, 10) / 2
POINTS = np.concatenate(
    [
        HALVES,
        np.nextafter(HALVES, np.float32(np.inf), dtype=np.float32),
        np.nextafter(HALVES, np.float32(-np.inf), dtype=np.float32),
        np.random.default_rng(0).uniform(-50, 50, 200),
        [0.49999997, -0.49999997, 8388609.0, -8388607.5, 1e-30, -1e-30],
    ]
).astype(np.float32)
POINTS = POINTS[(POINTS == 0) | (np.abs(POINTS) > 1e-37)]  # XLA counts subnormal numbers as zero

NEXT_TO_A_TIE = np.nextafter(np.float32(-0.5), np.float32(0))


def slow(v, rounding, noise=None):
    """One number in float64."""
    lower = math.floor(v)
    part = v - lower
    if rounding is Rounding.floor:
        return lower
    if rounding is Rounding.ceil:
        return math.ceil(v)
    if rounding is Rounding.stochastic:
        return lower + (noise < part)
    if part == 0.5:
        even = lower if lower % 2 == 0 else lower + 1
        away = lower if v < 0 else lower + 1
        return even if rounding is Rounding.half_even else away
    return lower if part < 0.5 else lower + 1


@pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode is not Rounding.stochastic])
@pytest.mark.parametrize("compiled", [False, True])
def test_against_a_loop(rounding, compiled):
    function = jax.jit(round_to_whole, static_argnums=1) if compiled else round_to_whole
    points = POINTS[POINTS != NEXT_TO_A_TIE]  # it has a test of its own
    expected = [slow(float(v), rounding) for v in points]
    np.testing.assert_array_equal(function(jnp.asarray(points), rounding, None), np.float32(expected))


@pytest.mark.parametrize(
    "rounding",
    [
        Rounding.half_even,
        Rounding.half_away,
    ],
)
def test_the_number_next_to_a_tie(rounding):
    assert slow(float(NEXT_TO_A_TIE), rounding) == 0
    assert round_to_whole(jnp.asarray(NEXT_TO_A_TIE), rounding, None) == 0


def test_ties_one_by_one():
    ties = jnp.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert round_to_whole(ties, Rounding.half_even, None).tolist() == [-2, -2, 0, 0, 2, 2]
    assert round_to_whole(ties, Rounding.half_away, None).tolist() == [-3, -2, -1, 1, 2, 3]
    assert round_to_whole(ties, Rounding.floor, None).tolist() == [-3, -2, -1, 0, 1, 2]
    assert round_to_whole(ties, Rounding.ceil, None).tolist() == [-2, -1, 0, 1, 2, 3]


@pytest.mark.parametrize("rounding", Rounding)
def test_nan_and_infinity_stay(rounding):
    noise = jnp.full(3, 0.5)
    found = round_to_whole(jnp.array([jnp.nan, jnp.inf, -jnp.inf]), rounding, noise)
    np.testing.assert_array_equal(found, [np.nan, np.inf, -np.inf])


def test_stochastic_against_a_loop():
    noise = np.random.default_rng(1).uniform(size=POINTS.size).astype(np.float32)
    noise[:4] = [0.0, 0.5, 0.0, 0.5]  # on the ties -4.5, -4, -3.5, -3
    expected = [slow(float(v), Rounding.stochastic, float(u)) for v, u in zip(POINTS, noise, strict=True)]
    found = round_to_whole(jnp.asarray(POINTS), Rounding.stochastic, jnp.asarray(noise))
    np.testing.assert_array_equal(found, np.float32(expected))


def test_stochastic_is_unbiased():
    """The mean of n draws lies within four standard errors of v, sqrt(p (1 - p) / n), at each of 200 points.

    One key in eighty would miss it by chance.
    """
    draws = 20_000
    v = jnp.asarray(np.random.default_rng(2).uniform(-3, 3, 200), jnp.float32)
    noise = jax.random.uniform(jax.random.key(1), (draws, 200))
    found = np.asarray(round_to_whole(jnp.broadcast_to(v, noise.shape), Rounding.stochastic, noise), np.float64)
    share = np.float64(v) - np.floor(np.float64(v))
    error = np.abs(found.mean(axis=0) - np.float64(v)) / np.sqrt(share * (1 - share) / draws)
    assert np.max(error) < 4
    assert set(np.unique(found - np.floor(np.float64(v)))) == {0, 1}


def test_stochastic_keeps_whole_numbers():
    v = jnp.arange(-4.0, 5.0)
    noise = jnp.zeros(9)
    np.testing.assert_array_equal(round_to_whole(v, Rounding.stochastic, noise), v)
