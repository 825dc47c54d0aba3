"""The small networks against numpy loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.models.cnn import CNN
from qresearch.models.mlp import MLP

X = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)


def filled(recipe, shape, classes):
    """The network of a recipe in evaluation mode, with random numbers everywhere."""
    model, rng = nnx.eval_shape(lambda: recipe.build(shape, classes, rngs=nnx.Rngs(0))), np.random.default_rng(1)
    model.eval()
    nnx.update(
        model, jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.3, 0.7, leaf.shape), leaf.dtype), nnx.state(model))
    )
    return model


@jax.jit
def run(model, x):
    return model(x)


def convolve(x, kernel, stride):
    """A 3x3 convolution with one pixel of zeros on every side, as PyTorch pads."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    size = (x.shape[1] + 2 - 3) // stride + 1
    out = np.empty((x.shape[0], size, size, kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, i, j] = np.einsum("nhwc,hwco->no", window, kernel)
    return out


def normalise(x, norm):
    mean, var, scale, bias = (np.asarray(variable) for variable in (norm.mean, norm.var, norm.scale, norm.bias))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def test_mlp():
    model = filled(MLP(width=5, depth=2), (6, 6, 2), 3)
    assert [layer.kernel.shape for layer in model.layers] == [(72, 5), (5, 5), (5, 3)]
    x = X.reshape(2, -1)
    for layer in model.layers[:-1]:
        x = np.maximum(x @ np.asarray(layer.kernel) + np.asarray(layer.bias), 0)
    expected = x @ np.asarray(model.layers[-1].kernel) + np.asarray(model.layers[-1].bias)
    np.testing.assert_allclose(run(model, X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("depth", [0, 1])
def test_mlp_of_any_depth(depth):
    model = filled(MLP(width=5, depth=depth), (2, 2, 1), 3)
    assert [layer.kernel.shape for layer in model.layers] == ([(4, 5), (5, 3)] if depth else [(4, 3)])
    assert jax.eval_shape(run, model, jnp.zeros((4, 2, 2, 1))).shape == (4, 3)


def test_cnn():
    model = filled(CNN(width=3), (6, 6, 2), 4)
    for norm in (model.bn1, model.bn2):
        norm.var[...] = jnp.abs(norm.var[...])
    x = np.maximum(normalise(convolve(X, np.asarray(model.conv1.kernel), 1), model.bn1), 0)
    x = np.maximum(normalise(convolve(x, np.asarray(model.conv2.kernel), 2), model.bn2), 0)
    assert x.shape == (2, 3, 3, 6)
    expected = x.mean(axis=(1, 2)) @ np.asarray(model.linear.kernel) + np.asarray(model.linear.bias)
    np.testing.assert_allclose(run(model, X), expected, rtol=1e-4, atol=1e-5)


def test_every_pair_of_a_norm_names_layers_that_are_there():
    model = filled(CNN(width=3), (6, 6, 2), 4)
    for layer, norm in model.norm_pairs:
        assert getattr(model, layer).kernel.shape[-1] == getattr(model, norm).scale.size
