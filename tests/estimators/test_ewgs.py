"""Element-wise gradient scaling against the paper's own form: Lee, Kim, Ham, CVPR 2021, equation 5.

There the input is brought to 0..1 over the whole grid, rounded to multiples of 1 / (levels - 1), and the gradient of
the result multiplied by 1 + delta sign(g) (x_n - x_q).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.estimators.ewgs import EWGS
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise

X = np.linspace(-2.6, 2.6, 211).astype(np.float32)
COTANGENT = np.where(np.arange(X.size) % 3, 1.5, -0.5).astype(np.float32)
SCALE = np.float32(0.37)


def paper(x, g, low, high, levels, delta):
    """One element: normalise, round, scale the gradient; nothing outside 0..1."""
    x_n = (x - low) / (high - low)
    if not 0 <= x_n <= 1:
        return 0.0
    x_q = np.rint(x_n * (levels - 1)) / (levels - 1)
    return g * (1 + delta * np.sign(g) * (x_n - x_q))


@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize(
    "grid", [Integer(3), Integer(2, signed=False), MidRise(2), Binary()], ids=lambda g: g.describe()
)
def test_gradient_against_equation_5(grid, delta):
    low, high, levels = float(grid.low) * SCALE, float(grid.high) * SCALE, int(grid.count)
    # Where two levels are equally near the paper's form and ours may take different ones.
    middles = (np.arange(levels - 1) + 0.5) * (high - low) / (levels - 1) + low
    kept = np.min(np.abs(X[:, None] - middles), axis=1) > 1e-4
    x, g = jnp.asarray(X[kept]), COTANGENT[kept]
    _, pull = jax.vjp(lambda x: fake_quantize(x, jnp.full(1, SCALE), None, QuantSpec(grid), EWGS(delta)), x)
    expected = [paper(value, one, low, high, levels, delta) for value, one in zip(X[kept], g, strict=True)]
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], expected, rtol=1e-5, atol=1e-6)
    assert 0 in expected and len(set(expected)) >= 3


def test_delta_of_zero_is_the_clipped_straight_through():
    found, plain = (
        jax.grad(lambda x, e=e: jnp.sum(fake_quantize(x, jnp.full(1, SCALE), None, QuantSpec(Integer(3)), e)))(X)
        for e in (EWGS(0.0), ClippedStraightThrough())
    )
    np.testing.assert_array_equal(found, plain)


def test_a_negative_delta_is_refused():
    with pytest.raises(ValueError, match=r"^delta=-0.1 is negative"):
        EWGS(-0.1)
