"""Which elements share a scale: a scale has the rank of its array, and each of its axes divides the array's.

An axis of size s over an array axis of size n serves n / s consecutive elements with each entry. So (1, 1) is
one scale for a matrix, (1, n) one for every column, (k / 32, n) one for every block of 32 rows of a column.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from qresearch.core.spec import Granularity, QuantSpec


def scale_shape(shape: Sequence[int], *, contract: Sequence[int], spec: QuantSpec) -> tuple[int, ...]:
    """The shape of the scale of an array of `shape` whose axes `contract` are summed by the matrix product.

    Raises ValueError where a block size does not divide its axis: the last contracted one and, for a pair, the last
    that is not contracted.
    """
    if spec.granularity is Granularity.tensor:
        return (1,) * len(shape)
    if spec.granularity is Granularity.channel:
        return tuple(1 if axis in contract else size for axis, size in enumerate(shape))
    blocks = spec.block_size if isinstance(spec.block_size, tuple) else (spec.block_size,)
    kept = [axis for axis in range(len(shape)) if axis not in contract]
    if len(blocks) > 1 and not kept:
        raise ValueError(
            f"block_size={blocks} has two lengths and an array of shape {tuple(shape)} no second axis for it."
        )
    groups = list(shape)
    for axis, block in zip((contract[-1], *kept[-1:]), blocks, strict=False):
        assert block is not None  # QuantSpec checks it
        if shape[axis] % block:
            raise ValueError(
                f"block_size={block} does not divide axis {axis} of an array of shape {tuple(shape)}; "
                f"choose a divisor of {shape[axis]}, or another granularity for this layer."
            )
        groups[axis] = shape[axis] // block
    return tuple(groups)


def split(x: Shaped[Array, "..."], groups: Sequence[int]) -> Shaped[Array, "..."]:
    """`x` with each axis n that has several entries s in `groups`, and not one for every element, cut into
    (s, n / s).
    """
    return x.reshape([part for size, group in zip(x.shape, groups, strict=True) for part in _cut(size, group)])


def spread(scale: Shaped[Array, "..."], shape: Sequence[int]) -> Shaped[Array, "..."]:
    """The scale of an array of `shape`, reshaped to broadcast against `split(x, scale.shape)`."""
    pairs = zip(shape, scale.shape, strict=True)
    return scale.reshape([part for size, group in pairs for part in (group, 1)[: len(_cut(size, group))]])


def reduce_groups(reduce: Callable, x: Shaped[Array, "..."], groups: Sequence[int]) -> Shaped[Array, "..."]:
    """`reduce` (jnp.max, jnp.sum, ...) over the elements that share a scale; the result has shape `groups`."""
    inner, axis = [], 0
    for size, group in zip(x.shape, groups, strict=True):
        axis += len(_cut(size, group))
        if group != size:
            inner.append(axis - 1)
    return reduce(split(x, groups), axis=tuple(inner)).reshape(groups)


def broadcast_groups(scale: Shaped[Array, "..."], shape: Sequence[int]) -> Shaped[Array, "..."]:
    """A scale (or any array of that shape) repeated to the full `shape` of the array that it serves."""
    cut = [part for size, group in zip(shape, scale.shape, strict=True) for part in _cut(size, group)]
    return jnp.broadcast_to(spread(scale, shape), cut).reshape(shape)


def _cut(size: int, group: int) -> tuple[int, ...]:
    """An axis of `size` as (groups, elements of a group), in one axis where one of the two is trivial."""
    return (size,) if group in (1, size) else (group, size // group)
