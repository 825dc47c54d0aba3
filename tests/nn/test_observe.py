"""The occupant that watches: it sees what passes, changes nothing, and is gone afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.pytree import pytree_dataclass
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.observe import Observe, Seen, watch_layers
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dynamic import Dynamic

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


@pytree_dataclass
class Keep:
    """A watch that keeps everything that it is shown."""

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        return lhs, rhs, out, jnp.array([*lhs_axes, *rhs_axes])


class Net(nnx.Module):
    """Numbers come from `build`."""

    def __init__(self):
        self.inner = nnx.List([nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1))])
        self.often = nnx.Linear(2, 2, rngs=nnx.Rngs(2))

    def __call__(self, x):
        for layer in self.inner:
            x = nnx.relu(layer(x))
        return self.often(self.often(x))


def build():
    net, rng = nnx.eval_shape(Net), np.random.default_rng(1)
    nnx.update(net, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), nnx.state(net)))
    return net


def test_a_watch_sees_input_weight_and_output():
    net = build()
    out, seen = watch_layers(net, {"inner.0": Keep(), "inner.1": Keep()}, X)
    np.testing.assert_array_equal(out, net(X))
    hidden = nnx.relu(net.inner[0](X))
    lhs, rhs, product, axes = seen["inner.1"]
    np.testing.assert_array_equal(lhs, hidden)
    np.testing.assert_array_equal(rhs, net.inner[1].kernel[...])
    np.testing.assert_allclose(product, np.asarray(hidden) @ np.asarray(rhs), rtol=1e-5, atol=1e-6)
    assert axes.tolist() == [1, 0]
    assert not any(isinstance(slot.occupant, Observe) for slot in slots(net).values())
    assert not nnx.to_flat_state(nnx.state(net, Seen))


def test_in_a_quantized_model_it_sees_what_reaches_the_quantizer():
    net = build()
    act = TensorQuantizer(QuantSpec(Integer(2)), Dynamic(AbsMax()), ClippedStraightThrough(), {}, is_act=True)
    slots(net)["inner.0"].fill(FakeQuant("dot_general", None, act))
    out, seen = watch_layers(net, {"inner.0": Keep()}, X)
    lhs, _, product, _ = seen["inner.0"]
    np.testing.assert_array_equal(lhs, X)
    np.testing.assert_array_equal(out, net(X))
    assert np.abs(product - np.asarray(X) @ np.asarray(net.inner[0].kernel[...])).max() > 0.01
    assert isinstance(slots(net)["inner.0"].occupant, FakeQuant)


def test_a_layer_that_is_called_twice():
    with pytest.raises(
        ValueError, match=r"^Layer 'often' is called 2 times in one pass, .* keep this one float by a rule\.$"
    ):
        watch_layers(build(), {"often": Keep()}, X)
