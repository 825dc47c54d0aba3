"""The occupant that simulates, in every kind of layer: the float operator on values that numpy has rounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range
from qresearch.nn.fake_quant import FakeQuant, QParam, TensorQuantizer
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ

STE = ClippedStraightThrough()
# (layer, shape of the input, axes of the kernel and of the input that share a scale per channel)
LAYERS = {
    "Linear": (lambda rngs: nnx.Linear(6, 4, rngs=rngs), (3, 6), 0, 1),
    "attention query": (lambda rngs: nnx.LinearGeneral(6, (2, 4), rngs=rngs), (2, 3, 6), 0, 2),
    "attention out": (
        lambda rngs: nnx.LinearGeneral((2, 4), 6, axis=(-2, -1), rngs=rngs),
        (2, 3, 2, 4),
        (0, 1),
        (2, 3),
    ),
    "strided Conv": (
        lambda rngs: nnx.Conv(2, 4, (3, 3), strides=2, padding=1, rngs=rngs),
        (2, 5, 5, 2),
        (0, 1, 2),
        (1, 2, 3),
    ),
    "grouped Conv": (
        lambda rngs: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=rngs),
        (2, 5, 5, 4),
        (0, 1, 2),
        (1, 2, 3),
    ),
}


def build(kind):
    """A layer of LAYERS with random numbers, in a model of its own."""
    model, rng = nnx.eval_shape(lambda: nnx.Sequential(LAYERS[kind][0](nnx.Rngs(0)))), np.random.default_rng(1)
    nnx.update(model, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), nnx.state(model)))
    return model


@jax.jit
def run(model, x):
    return model(x)


def rounded(x, axes, bits):
    """Symmetric, narrow, one scale for all elements along `axes`."""
    x, qmax = np.asarray(x), np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(x).max(axis=axes, keepdims=True) / qmax
    return np.clip(np.round(x / scale), -qmax, qmax) * scale


def dynamic(bits, granularity, *, is_act):
    spec = QuantSpec(Integer(bits, range=Range.narrow), granularity)
    return TensorQuantizer(spec, Dynamic(AbsMax()), STE, {}, is_act=is_act)


@pytest.mark.parametrize("kind", LAYERS)
def test_against_numpy(kind):
    _, shape, kernel_axes, input_axes = LAYERS[kind]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for granularity in (Granularity.tensor, Granularity.channel):
        is_tensor = granularity is Granularity.tensor
        model, expected = build(kind), build(kind)
        (slot,), (float_slot,) = slots(model).values(), slots(expected).values()
        kernel = rounded(slot.layer.kernel[...], None if is_tensor else kernel_axes, 3)
        float_slot.layer.kernel[...] = jnp.asarray(kernel)
        sides = dynamic(3, granularity, is_act=False), dynamic(4, granularity, is_act=True)
        slot.fill(FakeQuant(slot.attribute, *sides))
        on_grid = rounded(x, None if is_tensor else input_axes, 4)
        np.testing.assert_allclose(run(model, x), run(expected, on_grid), rtol=1e-5, atol=1e-5)
        assert np.abs(np.asarray(run(model, x)) - run(build(kind), x)).max() > 0.1


def test_a_side_without_a_quantizer_stays_float():
    _, shape, kernel_axes, _ = LAYERS["Linear"]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for weight, act in ((True, False), (False, True), (False, False)):
        model = build("Linear")
        (slot,) = slots(model).values()
        sides = (dynamic(3, Granularity.channel, is_act=i == 1) if on else None for i, on in enumerate((weight, act)))
        slot.fill(FakeQuant(slot.attribute, *sides))
        kernel = rounded(slot.layer.kernel[...], kernel_axes, 3) if weight else np.asarray(slot.layer.kernel)
        inputs = rounded(x, 1, 3) if act else x
        np.testing.assert_allclose(run(model, x), inputs @ kernel + np.asarray(slot.layer.bias), rtol=1e-5, atol=1e-5)


def test_codes_for_inspection_are_those_that_are_simulated():
    side = dynamic(3, Granularity.channel, is_act=False)
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    q = side.quantize(kernel, (0,))
    np.testing.assert_array_equal(q.codes.astype(jnp.float32) * q.scale, side(kernel, (0,)))


@pytest.mark.parametrize(
    ("shape", "contract", "samples"), [((8, 5), (1,), 8), ((8, 7, 5), (2,), 56), ((8, 3, 3, 2), (1, 2, 3), 8)]
)
def test_a_learned_scale_of_an_input_is_damped_by_the_features_of_one_sample(shape, contract, samples):
    x = np.full(shape, 100, np.float32)  # clipped everywhere: each element adds qmax to the gradient
    for is_act, elements in ((True, x.size // samples), (False, x.size)):
        qparams = {"scale": jnp.asarray(np.ones((1,) * x.ndim), jnp.float32)}
        side = TensorQuantizer(QuantSpec(Integer(3)), LSQ(AbsMax()), STE, qparams, is_act=is_act)
        graphdef, qparams, rest = nnx.split(side, QParam, ...)
        loss = jax.jit(lambda qparams, g=graphdef, r=rest: nnx.merge(g, qparams, r)(jnp.asarray(x), contract).sum())
        gradient = jax.grad(loss)(qparams)
        (found,) = jax.tree.leaves(gradient)
        assert found.item() == pytest.approx(x.size * 3 / np.sqrt(elements * 3), rel=1e-5)
