"""The dynamic rule: the scale of the tensor at hand, which the gradient does not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.dynamic import Dynamic

RNG = np.random.default_rng(0)
X, COTANGENT = (jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32) for _ in range(2))
SPEC = QuantSpec(Integer(4, range=Range.narrow), Granularity.channel)


@pytest.mark.parametrize(
    ("observer", "scale"),
    [(AbsMax(), np.abs(X).max(axis=0) / 7), (MeanMagnitude(), 2 * np.abs(X).mean(axis=0) / np.sqrt(7))],
    ids=repr,
)
def test_plain_straight_through(observer, scale):
    """Each element gets its gradient as it is, the largest too, although it sets the scale of the others."""

    @jax.jit
    def rounded(x):
        scales = []

        def keep_scale(x, scale, zero_point):
            scales.append(scale)
            return fake_quantize(x, scale, zero_point, SPEC, ClippedStraightThrough())

        return Dynamic(observer).apply(x, {}, keep_scale, contract=(0,), spec=SPEC), scales

    _, pull, (found,) = jax.vjp(rounded, X, has_aux=True)
    np.testing.assert_allclose(found[0], scale, rtol=1e-6)
    inside = np.abs(X) <= 7 * np.asarray(found) * (1 + 1e-6)
    np.testing.assert_array_equal(pull(COTANGENT)[0], np.where(inside, COTANGENT, 0))


def test_it_holds_no_numbers():
    assert Dynamic(AbsMax()).init(AbsMax().measure(X, contract=(0,), spec=SPEC), SPEC) == {}
