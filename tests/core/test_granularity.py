"""Which elements share a scale: the shapes for every kind of layer, and grouping against loops over elements."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.granularity import broadcast_groups, reduce_groups, scale_shape, split, spread
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer

# (name, shape, contract, shape of the scale per channel, block size, shape of the scale per block)
TENSORS = [
    ("Linear kernel (in, out)", (12, 5), (0,), (1, 5), 4, (3, 5)),
    ("LinearGeneral kernel (in, in, out, out)", (2, 6, 3, 5), (0, 1), (1, 1, 3, 5), 3, (2, 2, 3, 5)),
    ("Conv kernel HWIO", (3, 3, 8, 16), (0, 1, 2), (1, 1, 1, 16), 4, (3, 3, 2, 16)),
    ("grouped Conv kernel HWIO", (3, 3, 1, 16), (0, 1, 2), (1, 1, 1, 16), 1, (3, 3, 1, 16)),
    ("attention query kernel (in, heads, features)", (8, 2, 3), (0,), (1, 2, 3), 2, (4, 2, 3)),
    ("attention out kernel (heads, features, out)", (2, 3, 8), (0, 1), (1, 1, 8), 3, (2, 1, 8)),
    ("tokens (batch, time, features)", (4, 7, 6), (2,), (4, 7, 1), 3, (4, 7, 2)),
    ("images NHWC", (4, 5, 5, 6), (1, 2, 3), (4, 1, 1, 1), 2, (4, 5, 5, 3)),
    ("batched matrices, contracted in the middle", (3, 4, 5), (1,), (3, 1, 5), 2, (3, 2, 5)),
]
# (shape, shape of the scale)
GROUPINGS = [
    ((7,), (1,)),
    ((6, 4), (1, 1)),
    ((6, 4), (1, 4)),
    ((6, 4), (3, 4)),
    ((2, 6, 4), (2, 3, 1)),
    ((3, 2, 2, 4), (1, 2, 1, 2)),
]


@pytest.mark.parametrize(
    ("name", "shape", "contract", "channel", "block_size", "block"),
    TENSORS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scale_shape(name, shape, contract, channel, block_size, block):
    assert scale_shape(shape, contract=contract, spec=QuantSpec(Integer(4))) == (1,) * len(shape)
    assert scale_shape(shape, contract=contract, spec=QuantSpec(Integer(4), Granularity.channel)) == channel
    blocks = scale_shape(shape, contract=contract, spec=QuantSpec(Integer(4), Granularity.block, block_size))
    assert blocks == block
    assert math.prod(shape) // math.prod(blocks) == block_size  # so many elements share a scale, whatever the layer
    whole = scale_shape(shape, contract=contract, spec=QuantSpec(Integer(4), Granularity.block, shape[contract[-1]]))
    assert whole[contract[-1]] == 1


def test_a_block_that_does_not_divide():
    spec = QuantSpec(Integer(4), Granularity.block, 48)
    message = (
        r"^block_size=48 does not divide axis 0 of an array of shape \(64, 16\); choose a divisor of 64, or another"
    )
    with pytest.raises(ValueError, match=message):
        scale_shape((64, 16), contract=(0,), spec=spec)


def owner(index, shape, groups):
    """The group of an element: along each axis, runs of n / s elements in order."""
    return tuple(i // (size // group) for i, size, group in zip(index, shape, groups, strict=True))


@pytest.mark.parametrize(("shape", "groups"), GROUPINGS, ids=str)
def test_grouping_against_loops(shape, groups):
    rng = np.random.default_rng(0)
    x, scale = rng.normal(size=shape).astype(np.float32), rng.normal(size=groups).astype(np.float32)
    largest, repeated = np.full(groups, -np.inf, np.float32), np.empty(shape, np.float32)
    for index in itertools.product(*map(range, shape)):
        group = owner(index, shape, groups)
        largest[group] = max(largest[group], x[index])
        repeated[index] = scale[group]
    np.testing.assert_array_equal(reduce_groups(jnp.max, jnp.asarray(x), groups), largest)
    np.testing.assert_array_equal(broadcast_groups(jnp.asarray(scale), shape), repeated)
    product = split(jnp.asarray(x), groups) * spread(jnp.asarray(scale), shape)
    np.testing.assert_array_equal(product.reshape(shape), x * repeated)


def test_ranks_must_agree():
    with pytest.raises(ValueError, match="zip"):
        split(jnp.zeros((4, 2)), (1,))
