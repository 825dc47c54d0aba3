"""Folding batch norm changes where the numbers are kept, and no output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.models.cnn import CNN
from qresearch.models.resnet import BasicBlock
from qresearch.nn.slots import slots
from qresearch.passes.fold_batch_norm import fold_batch_norm

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)


class Net(nnx.Module):
    """A convolution and a linear layer, each with batch norm behind it."""

    norm_pairs = (("conv", "conv_norm"), ("linear", "linear_norm"))

    def __init__(self, use_bias):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), use_bias=use_bias, rngs=rngs)
        self.conv_norm = nnx.BatchNorm(4, epsilon=0.1, rngs=rngs)
        self.linear = nnx.Linear(4, 5, use_bias=use_bias, rngs=rngs)
        self.linear_norm = nnx.BatchNorm(5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv_norm(self.conv(x))).mean(axis=(1, 2))
        return self.linear_norm(self.linear(x))


def trained(build):
    """A network in evaluation mode, with numbers everywhere that are not the ones it starts from."""
    model, rng = nnx.eval_shape(build), np.random.default_rng(1)
    model.eval()
    numbers = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.update(model, jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), leaf.dtype), numbers))
    return model


MODELS = {
    "with bias": lambda: Net(True),
    "without bias": lambda: Net(False),
    "CNN": lambda: CNN(4).build((8, 8, 3), 10, rngs=nnx.Rngs(0)),
    "nested blocks": lambda: nnx.Sequential(
        BasicBlock(3, 3, 1, rngs=nnx.Rngs(0)), BasicBlock(3, 5, 2, rngs=nnx.Rngs(0))
    ),
}


@jax.jit
def run(model, x):
    return model(x)


@pytest.mark.parametrize("kind", MODELS)
def test_the_folded_model_computes_the_same(kind):
    model = trained(MODELS[kind])
    graphdef, state = nnx.split(nnx.clone(model))
    expected = np.asarray(run(model, X))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(run(folded, X), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert not jax.tree.leaves(nnx.state(folded, nnx.BatchStat))
    assert list(slots(folded)) == list(slots(model))  # rules keep matching
    # The model that was given is as it was.
    assert nnx.graphdef(model) == graphdef
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), state)


def test_the_numbers_of_one_layer_by_hand():
    model = trained(MODELS["with bias"])
    layer, norm = model.conv, model.conv_norm
    factor = np.asarray(norm.scale) / np.sqrt(np.asarray(norm.var) + 0.1)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded.conv.kernel[...], np.asarray(layer.kernel) * factor, rtol=1e-6)
    expected = (np.asarray(layer.bias) - np.asarray(norm.mean)) * factor + np.asarray(norm.bias)
    np.testing.assert_allclose(folded.conv.bias[...], expected, rtol=1e-5, atol=1e-6)
    assert isinstance(folded.conv.bias, nnx.Param) and folded.conv.use_bias


def test_a_model_without_pairs_is_copied():
    model = nnx.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    folded = fold_batch_norm(model)
    assert folded is not model and isinstance(folded.layers[1], nnx.BatchNorm)
    np.testing.assert_array_equal(folded.layers[0].kernel[...], model.layers[0].kernel[...])
