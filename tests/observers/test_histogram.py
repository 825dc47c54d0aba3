"""The histogram whose bins belong to float32: every value in its bin, every bin of its width, counts by group."""

import jax
import numpy as np

from qresearch.observers.histogram import LOWEST, MAGNITUDES, MANTISSA_BITS, OCTAVES, bin_edges, bin_points, histogram

EDGES = np.asarray(bin_edges(), np.float64)
compiled = jax.jit(histogram, static_argnums=1)


def bin_of(x):
    """The bin of one value, by the histogram's own count."""
    (index,) = np.flatnonzero(compiled(np.array([x], np.float32), (1,)).counts)
    return index


def test_the_edges_rise_and_a_bin_is_a_small_part_of_its_value():
    assert len(EDGES) == 2 * MAGNITUDES + 2 and np.all(np.diff(EDGES) > 0)
    np.testing.assert_array_equal(EDGES, -EDGES[::-1])
    positive = EDGES[MAGNITUDES + 1 :]
    assert (positive[0], positive[-1]) == (2.0**LOWEST, 2.0 ** (LOWEST + OCTAVES))
    assert np.all(np.diff(positive) <= positive[:-1] * 2.0**-MANTISSA_BITS)


def test_every_value_lies_in_its_bin():
    rng = np.random.default_rng(0)
    values = (rng.choice([-1, 1], 60) * np.exp2(rng.uniform(LOWEST, LOWEST + OCTAVES, 60))).astype(np.float32)
    counts = np.asarray(compiled(values, (60,)).counts)
    assert np.all(counts.sum(axis=1) == 1)
    index = counts.argmax(axis=1)
    low, high = EDGES[index], EDGES[index + 1]
    # A magnitude on an edge belongs to the bin above it, on both sides of zero.
    assert np.all(np.where(values > 0, (low <= values) & (values < high), (low < values) & (values <= high)))


def test_the_ends():
    zero, last = MAGNITUDES, 2 * MAGNITUDES
    assert bin_of(0.0) == bin_of(-0.0) == bin_of(1e-45) == bin_of(-(2.0 ** (LOWEST - 1))) == zero
    assert bin_of(2.0**LOWEST) == zero + 1 and bin_of(-(2.0**LOWEST)) == zero - 1
    assert bin_of(2.0 ** (LOWEST + OCTAVES)) == bin_of(3e38) == last and bin_of(-3e38) == 0


def test_counts_by_group_against_numpy():
    x = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    counts = np.asarray(compiled(x, (2, 3)).counts)
    assert counts.shape == (2, 3, 2 * MAGNITUDES + 1)
    for row in range(2):
        for column in range(3):
            expected, _ = np.histogram(x[4 * row : 4 * row + 4, column], EDGES)
            np.testing.assert_array_equal(counts[row, column], expected)


def test_the_points_of_a_bin_are_spread_evenly_inside_it():
    points = np.asarray(bin_points(4), np.float64).T
    low, high = EDGES[:-1, None], EDGES[1:, None]
    np.testing.assert_allclose(
        points[MAGNITUDES + 1 :], (low + (high - low) * [0.125, 0.375, 0.625, 0.875])[MAGNITUDES + 1 :], rtol=1e-6
    )
    np.testing.assert_array_equal(points, -points[::-1, ::-1])
    assert np.all(points[MAGNITUDES] == 0)  # ReLU outputs are mostly zero, and zero is exact on every grid
