"""Trees of arrays side by side: one tree with a leading axis of cells, spread over all devices of this machine."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def stack(trees: Sequence[Any]) -> Any:
    """One tree whose leaves have a leading axis, on which the trees follow one another.

    With several devices the axis is divided among them, and filled up with copies of the last tree where it does not
    come out even.
    """
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)
    return jax.tree.map(spread, stacked)


def spread(x: Any, *, axis: int = 0) -> Any:
    """`x` with its axis of cells divided among the devices."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return x
    missing = -x.shape[axis] % len(devices)
    if missing:
        last = jax.lax.slice_in_dim(jnp.asarray(x), x.shape[axis] - 1, x.shape[axis], axis=axis)
        x = jnp.concatenate([jnp.asarray(x), *[last] * missing], axis=axis)
    places = PartitionSpec(*[None] * axis, "cells")
    return jax.device_put(x, NamedSharding(Mesh(devices, ("cells",)), places))


def unstack(tree: Any, count: int) -> list[Any]:
    """The first `count` of the trees that were stacked, as arrays of the host."""
    host = jax.device_get(tree)
    return [jax.tree.map(lambda leaf, number=number: leaf[number], host) for number in range(count)]
