"""Both straight-through estimators on a grid of points, one element at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise

POINTS = np.array([-9.0, -4.5, -4.0, -3.2, -1.0, -0.4, 0.0, 0.5, 1.0, 1.6, 3.0, 3.4, 3.6, 20.0], np.float32)
COTANGENT = np.linspace(-2, 2, POINTS.size).astype(np.float32)
SCALE = np.float32(0.7)
GRIDS = [Integer(3), Integer(2, signed=False), MidRise(2), Binary()]


def gradients(estimator, grid):
    """(dx, ds) of the points in units of the scale, for the cotangent."""

    def rounded(x, scale):
        return fake_quantize(x, scale, None, QuantSpec(grid), estimator)

    dx, ds = jax.vjp(rounded, jnp.asarray(POINTS * SCALE), jnp.full(1, SCALE))[1](jnp.asarray(COTANGENT))
    return np.asarray(dx), float(ds[0])


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.describe())
def test_everything_passes(grid):
    """v q is s q: with dx = g everywhere the scale takes g (q - v), clipped or not."""
    dx, ds = gradients(StraightThrough(), grid)
    np.testing.assert_array_equal(dx, COTANGENT)
    q = np.array(
        [
            np.asarray(fake_quantize(jnp.float32([v]), jnp.ones(1), None, QuantSpec(grid), StraightThrough()))[0]
            for v in POINTS
        ]
    )
    assert ds == pytest.approx(float(np.sum(COTANGENT * (q - POINTS))), rel=1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.describe())
def test_clipped_values_pass_nothing(grid):
    """Hubara et al., equation 4: [|r| <= 1] for binary; the ends of the grid count as inside."""
    expected = [g if float(grid.low) <= v <= float(grid.high) else 0.0 for v, g in zip(POINTS, COTANGENT, strict=True)]
    dx, _ = gradients(ClippedStraightThrough(), grid)
    np.testing.assert_array_equal(dx, np.float32(expected))
    assert 0 in expected and np.count_nonzero(expected) > 1
