"""The third side of a layer: the gradient of its output, rounded on its way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import QuantSpec
from qresearch.grids.integer import Integer
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.nn.clock import set_clock
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.static import Static

MODEL = nnx.Linear(8, 3, use_bias=False, rngs=nnx.Rngs(0))
RNG = np.random.default_rng(0)
X, G = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((5, 8), (5, 3)))


def with_gradient(spec, key=None):
    rules = assign(list(slots(MODEL)), [Rule(".*", grad=Assignment(spec, Dynamic(AbsMax())))])
    return quantize_model(MODEL, rules, geometry(MODEL, X.shape), {}, key=key)


def gradients(model):
    """(d kernel, d x) for the cotangent G of the output."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    _, pull = jax.vjp(lambda params, x: nnx.merge(graphdef, params, rest)(x), params, X)
    params, dx = pull(G)
    return params["kernel"].get_value(), dx


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_both_products_of_the_backward_pass_see_the_rounded_gradient(granularity):
    model = with_gradient(QuantSpec(Integer(3), granularity))
    largest = np.abs(G).max(axis=1, keepdims=True) if granularity == "channel" else np.abs(G).max()  # of each sample
    scale = np.float32(largest / 3)
    rounded = np.round(np.clip(G / scale, -4, 3)) * scale
    dw, dx = gradients(model)
    np.testing.assert_allclose(dw, X.T @ rounded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, rounded @ MODEL.kernel[...].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(X), MODEL(X))  # the forward pass is float
    assert np.abs(rounded - G).max() > 0.1


def test_stochastic_rounding_draws_anew_at_every_tick_and_is_unbiased():
    model = with_gradient(QuantSpec(MiniFloat(5, 2, Special.ieee), rounding="stochastic"), key=jax.random.key(0))
    graphdef, state = nnx.split(model)

    @jax.jit
    def draw(state, key):
        model = nnx.merge(graphdef, state)
        set_clock(model, progress=0.0, key=key)
        return gradients(model)[0]

    draws = jnp.stack([draw(state, jax.random.key(number)) for number in range(200)])
    exact = np.asarray(X.T @ G)
    standard_error = np.asarray(draws).std(axis=0) / np.sqrt(len(draws))
    assert np.all(standard_error > 0)
    assert np.all(np.abs(np.asarray(draws).mean(axis=0) - exact) < 4.5 * standard_error + 1e-6)


def test_stochastic_rounding_needs_a_key():
    with pytest.raises(ValueError, match="rounding=stochastic needs a random key"):
        with_gradient(QuantSpec(Integer(4), rounding="stochastic"))


def test_a_stored_scale_is_refused():
    with pytest.raises(ValueError, match="a gradient is not seen by calibration"):
        Rule(".*", grad=Assignment(QuantSpec(Integer(4)), Static(AbsMax())))


def test_the_slot_holds_all_three_sides():
    model = with_gradient(QuantSpec(Integer(3)))
    occupant = slots(model)[""].occupant
    assert isinstance(occupant, FakeQuant)
    assert occupant.weight is None and occupant.act is None and occupant.grad is not None
