"""What each layer multiplies: found without computing, and its operations against a count by hand."""

import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from qresearch.nn.geometry import Geometry, geometry

RNGS = nnx.Rngs(0)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding=1, rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), padding=1, feature_group_count=8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, qkv_features=12, decode=False, rngs=rngs)
        self.linear = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = self.depthwise(self.conv(x))
        x = self.attention(x.reshape(x.shape[0], -1, 8))
        return self.linear(x.mean(axis=1))


NET = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))  # shapes alone, as before a checkpoint is loaded


def test_shapes_axes_and_macs_by_hand():
    found = geometry(NET, (2, 9, 7, 3))  # 9x7 pixels become 5x4
    assert found["conv"] == Geometry((2, 9, 7, 3), (3, 3, 3, 8), (2, 5, 4, 8), (1, 2, 3), (0, 1, 2))
    assert found["depthwise"] == Geometry((2, 5, 4, 8), (3, 3, 1, 8), (2, 5, 4, 8), (1, 2, 3), (0, 1, 2))
    assert found["linear"] == Geometry((2, 8), (8, 10), (2, 10), (1,), (0,))
    macs = {"conv": 2 * 5 * 4 * 8 * 27, "depthwise": 2 * 5 * 4 * 8 * 9, "linear": 2 * 8 * 10}
    assert {name: found[name].macs for name in macs} == macs
    query, out = found["attention.query"], found["attention.out"]
    assert query == Geometry((2, 20, 8), (8, 2, 6), (2, 20, 2, 6), (2,), (0,))
    assert out == Geometry((2, 20, 2, 6), (2, 6, 8), (2, 20, 8), (2, 3), (0, 1))
    assert query.macs == out.macs == 2 * 20 * 8 * 12


def test_a_layer_is_a_model_too():
    (found,) = geometry(nnx.Linear(3, 4, rngs=RNGS), (2, 3)).values()
    assert found == Geometry((2, 3), (3, 4), (2, 4), (1,), (0,))


def test_the_model_is_left_as_it_was():
    model = nnx.Linear(3, 4, rngs=RNGS)
    around, before = nnx.Sequential(model), nnx.split(model)
    assert list(geometry(around, (2, 3))) == ["layers.0"]
    assert nnx.graphdef(model) == before[0] and model.dot_general is jax.lax.dot_general
    assert jax.tree.all(jax.tree.map(jnp.array_equal, nnx.state(model), before[1]))


class Twice(nnx.Module):
    def __init__(self):
        self.linear, self.unused = nnx.Linear(3, 3, rngs=RNGS), nnx.Linear(3, 3, rngs=RNGS)

    def __call__(self, x):
        return self.linear(self.linear(x))


def test_a_layer_that_is_not_called_once():
    with pytest.raises(
        ValueError, match=r"^Layer 'linear' is called 2 times in one pass, not once; give each use a layer"
    ):
        geometry(Twice(), (2, 3))
    model = Twice()
    model.linear = nnx.Dropout(0.5, deterministic=True)
    with pytest.raises(ValueError, match=r"^Layer 'unused' is called 0 times"):
        geometry(model, (2, 3))


def test_macs_count_the_products_of_a_matrix_multiplication():
    shape = Geometry((4, 6, 8), (8, 3, 5), (4, 6, 3, 5), (2,), (0,))
    assert shape.macs == math.prod((4, 6, 8, 3, 5))
