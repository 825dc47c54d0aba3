"""Trees side by side: stacked and taken apart again they are what they were, on one device and on several."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.spec import QuantSpec
from qresearch.core.stack import spread, stack, unstack
from qresearch.grids.integer import Integer

ROOT = Path(__file__).parents[2]


def trees(count):
    return [
        {"w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3) + number, "n": (np.int32(number), 0.5 * number)}
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_taken_apart_they_are_what_they_were(count):
    stacked = stack(trees(count))
    assert stacked["w"].shape == (count, 2, 3) and stacked["n"][0].shape == (count,)
    assert (stacked["w"].dtype, stacked["n"][0].dtype) == (jnp.float32, jnp.int32)
    for found, tree in zip(unstack(stacked, count), trees(count), strict=True):
        assert jax.tree.structure(found) == jax.tree.structure(tree)
        jax.tree.map(np.testing.assert_array_equal, found, tree)
        assert all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in jax.tree.leaves(found))


def test_the_first_of_many():
    found = unstack(stack(trees(5)), 2)
    assert [int(tree["n"][0]) for tree in found] == [0, 1]


def test_specs_that_differ_in_numbers_stack():
    stacked = stack([QuantSpec(Integer(bits)) for bits in (8, 4, 2)])
    highs = jax.vmap(lambda spec: spec.grid.high)(stacked)
    np.testing.assert_array_equal(highs, [127, 7, 1])


def test_random_keys_stack():
    keys = [jax.random.key(seed) for seed in (3, 4)]
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(stack(keys))
    np.testing.assert_array_equal(drawn, [jax.random.uniform(key, (2,)) for key in keys])


def test_trees_of_other_structures_do_not_stack():
    with pytest.raises(ValueError):
        stack([{"a": 1.0}, {"b": 1.0}])


def test_on_one_device_nothing_is_moved():
    x = jnp.ones((3, 2))
    assert spread(x) is x


ON_THREE = """
import jax, numpy as np
from qresearch.core.stack import spread, stack, unstack
assert jax.local_device_count() == 3
for count in (1, 2, 3, 4, 6, 7):
    trees = [{"w": np.full((2, 2), number, np.float32), "n": np.int32(number)} for number in range(count)]
    stacked = stack(trees)
    size = -(-count // 3) * 3
    for leaf in jax.tree.leaves(stacked):
        assert leaf.shape[0] == size and len(leaf.sharding.device_set) == 3
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {size // 3}
    np.testing.assert_array_equal(stacked["n"], [*range(count), *[count - 1] * (size - count)])
    for found, tree in zip(unstack(stacked, count), trees, strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, tree)
indices = np.arange(20).reshape(5, 4)
moved = spread(indices, axis=1)
np.testing.assert_array_equal(moved, indices[:, [0, 1, 2, 3, 3, 3]])
assert {shard.data.shape for shard in moved.addressable_shards} == {(5, 2)}
keys = stack([jax.random.key(seed) for seed in range(4)])
drawn = jax.jit(jax.vmap(lambda key: jax.random.uniform(key)))(keys)
np.testing.assert_array_equal(drawn[:4], [jax.random.uniform(jax.random.key(seed)) for seed in range(4)])
print("done")
"""


def test_on_three_devices_the_cells_are_divided_among_them():
    """Where they do not come out even, the last is there again; unstack leaves it out."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    environment |= {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_THREE], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
