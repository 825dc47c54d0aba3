"""What training tells quantizers before each step: how far it is, and a random key."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.estimators.ede import EDE
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.nn.clock import set_clock
from qresearch.nn.fake_quant import Clock, TensorQuantizer
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.static import Static

STE = ClippedStraightThrough()
X = jnp.asarray(np.random.default_rng(0).uniform(-0.9, 0.9, size=(6, 4)), jnp.float32)
SCALE = {"scale": jnp.ones((1, 1))}


class Two(nnx.Module):
    """Two quantizers of one kind."""

    def __init__(self, spec, estimator, key=None):
        self.first, self.second = (
            TensorQuantizer(spec, Static(AbsMax()), estimator, SCALE, is_act=False, key=key) for _ in range(2)
        )


def test_progress_reaches_a_scheduled_estimator():
    model = Two(QuantSpec(Binary()), EDE())
    slopes = []
    for progress in (0.0, 0.5, 1.0):
        set_clock(model, progress=progress, key=jax.random.key(0))
        slopes.append(jax.grad(lambda x: model.first(x, (0,)).sum())(X))
        t = 0.1 * 100**progress
        np.testing.assert_allclose(
            slopes[-1], max(1 / t, 1) * t * (1 - np.tanh(t * X) ** 2), rtol=1e-4, atol=1e-5
        )  # 1 - tanh^2 cancels
    assert np.abs(slopes[0] - slopes[2]).max() > 0.5


def test_every_quantizer_has_a_key_of_its_own():
    model = Two(QuantSpec(Integer(2), rounding="stochastic"), STE, key=jax.random.key(7))
    np.testing.assert_array_equal(model.first(X, (0,)), model.first(X, (0,)))  # until the clock moves
    set_clock(model, progress=0.0, key=jax.random.key(1))
    first, second = model.first(X, (0,)), model.second(X, (0,))
    set_clock(model, progress=0.0, key=jax.random.key(2))
    assert np.any(first != second) and np.any(first != model.first(X, (0,)))
    assert set(np.unique(first)) <= {-1.0, 0.0, 1.0}


def test_codes_for_inspection_are_those_that_are_simulated():
    model = Two(QuantSpec(Integer(2), rounding="stochastic"), STE, key=jax.random.key(7))
    np.testing.assert_array_equal(model.first.quantize(X, (0,)).codes, model.first(X, (0,)))


def test_others_have_no_clock():
    model = Two(QuantSpec(Integer(2)), STE)
    assert not jax.tree.leaves(nnx.state(model, Clock))
    set_clock(model, progress=0.3, key=jax.random.key(0))
    assert not jax.tree.leaves(nnx.state(model, Clock))
