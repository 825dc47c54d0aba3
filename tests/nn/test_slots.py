"""The seam: which layers have a slot, what an operator in it sees, and which axes it sums over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.nn.geometry import geometry
from qresearch.nn.slots import OPERATORS, slots


class Around(nnx.Module):
    """A model of one layer."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


# (layer, shape of an input that its kernel covers whole, so that every weight meets every position)
LAYERS = {
    "Linear": (lambda rngs: nnx.Linear(3, 4, rngs=rngs), (2, 3)),
    "Linear on tokens": (lambda rngs: nnx.Linear(3, 4, rngs=rngs), (2, 5, 3)),
    "attention query": (lambda rngs: nnx.LinearGeneral(3, (2, 4), rngs=rngs), (2, 5, 3)),
    "attention out": (lambda rngs: nnx.LinearGeneral((2, 4), 3, axis=(-2, -1), rngs=rngs), (2, 5, 2, 4)),
    "LinearGeneral over the middle": (lambda rngs: nnx.LinearGeneral(3, 4, axis=1, rngs=rngs), (2, 3, 5)),
    "LinearGeneral with a batch axis": (lambda rngs: nnx.LinearGeneral(3, 4, batch_axis={0: 2}, rngs=rngs), (2, 5, 3)),
    "Conv": (lambda rngs: nnx.Conv(2, 4, (3, 2), padding="VALID", rngs=rngs), (2, 3, 2, 2)),
    "strided Conv": (lambda rngs: nnx.Conv(2, 4, (3, 2), strides=2, padding="VALID", rngs=rngs), (2, 3, 2, 2)),
    "grouped Conv": (
        lambda rngs: nnx.Conv(4, 4, (3, 2), padding="VALID", feature_group_count=2, rngs=rngs),
        (2, 3, 2, 4),
    ),
    "Conv over time": (lambda rngs: nnx.Conv(2, 4, 3, padding="VALID", rngs=rngs), (2, 3, 2)),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request):
    """A layer full of positive numbers and a positive input: nothing cancels."""
    build, shape = LAYERS[request.param]
    layer, rng = nnx.eval_shape(lambda: build(nnx.Rngs(0))), np.random.default_rng(0)
    nnx.update(
        layer, jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype), nnx.state(layer))
    )
    return layer, jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)


@jax.jit
def jacobians(layer, x):
    """How the output depends on the kernel and on the input."""
    graphdef, kernel, rest = nnx.split(layer, nnx.PathContains("kernel"), ...)
    of_kernel, of_input = jax.jacobian(lambda kernel, x: nnx.merge(graphdef, kernel, rest)(x), argnums=(0, 1))(
        kernel, x
    )
    return jax.tree.leaves(of_kernel)[0], of_input


def summed_over(jacobian, shape):
    """The axes along which an argument reaches the same outputs: those that are summed over."""
    reached = np.asarray(jacobian).reshape(-1, *shape) != 0
    return {axis for axis in range(len(shape)) if np.all(reached == np.take(reached, [0], axis=axis + 1))}


def test_contracted_axes_against_brute_force(layer_and_input, request):
    layer, x = layer_and_input
    found = geometry(Around(layer), x.shape)["layer"]
    of_kernel, of_input = jacobians(layer, x)
    assert set(found.rhs_axes) == summed_over(of_kernel, layer.kernel.shape)
    if "grouped" not in request.node.name:  # a group reads some features only; one scale serves the sample all the same
        assert set(found.lhs_axes) == summed_over(of_input, x.shape)
    out_shape = of_input.shape[: -x.ndim]
    assert (found.lhs_shape, found.rhs_shape, found.out_shape) == (x.shape, layer.kernel.shape, out_shape)


def test_the_last_contracted_axis_of_a_conv_is_its_input_features():
    """The one that is cut into blocks, as the columns of the kernel taken as a matrix."""
    build, shape = LAYERS["Conv"]
    found = geometry(nnx.eval_shape(lambda: Around(build(nnx.Rngs(0)))), shape)["layer"]
    assert (found.rhs_axes[-1], found.lhs_axes[-1]) == (2, 3)


def test_an_operator_in_the_slot_takes_the_place_of_the_float_one(layer_and_input):
    layer, x = layer_and_input
    (slot,) = slots(Around(layer)).values()
    layer.bias[...] = jnp.asarray(np.zeros(layer.bias.shape), jnp.float32)
    expected, seen = np.asarray(layer(x)), []

    def operator(lhs, rhs, *args, **kwargs):
        seen.append((lhs.shape, rhs.shape))
        return 2 * OPERATORS[slot.attribute](lhs, rhs, *args, **kwargs)

    slot.fill(operator)
    np.testing.assert_allclose(layer(x), 2 * expected, rtol=1e-6)
    assert seen == [(x.shape, layer.kernel.shape)] and slot.occupant is operator


class Block(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.steps = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(11)])


def test_every_layer_with_an_operator_has_a_slot():
    """Also attention, whose projections hold no operator until one is given."""
    found = slots(nnx.eval_shape(Block))
    attention = [f"attention.{name}" for name in ("key", "out", "query", "value")]
    assert list(found) == [*attention, *(f"steps.{number}" for number in range(11))]  # 10 after 9
    assert {slot.attribute for slot in found.values()} == {"dot_general"}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("layer", lambda rngs: nnx.LinearGeneral(3, 4, dot_general_cls=lambda: jax.lax.dot_general, rngs=rngs)),
        (
            "layer.out",
            lambda rngs: nnx.MultiHeadAttention(2, 4, out_dot_general_cls=lambda: jax.lax.dot_general, rngs=rngs),
        ),
    ],
)
def test_a_class_that_flax_would_prefer_is_an_error(name, build):
    message = (
        rf"^Layer '{name}' sets dot_general_cls, which flax prefers over dot_general, .* build it with dot_general="
    )
    with pytest.raises(ValueError, match=message):
        slots(nnx.eval_shape(lambda: Around(build(nnx.Rngs(0)))))
