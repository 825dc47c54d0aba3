"""Products of integers that are summed in int32: the sum is exact, whichever unit of the machine computes it.

A float32 holds every integer up to 2^24, and so every partial sum of integers whose magnitudes add up to no more, in
any order. Where that bound holds, a product of integers may run on float units and still be exact; where it does not,
it runs on integers. On GPU and TPU int8 operands are multiplied natively.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Integer

EXACT_IN_FLOAT32 = 2**24
LARGEST_INT32 = 2**31 - 1


def check_accumulator(terms: int, lhs: int, rhs: int, name: str) -> None:
    """Raise ValueError where a sum of `terms` products could overflow int32; `lhs` and `rhs` are the largest magnitudes
    of the two operands, and `name` is what the message calls the layer.
    """
    largest = terms * lhs * rhs
    if largest > LARGEST_INT32:
        raise ValueError(
            f"{name} sums {terms} products of magnitudes up to {lhs} and {rhs}: up to {largest}, which int32 (up to "
            f"{LARGEST_INT32}) does not hold; use fewer bits for it, or keep it float by a rule."
        )


def largest_sum(weight: Integer[np.ndarray, "..."], contract: tuple[int, ...], lhs: int) -> int:
    """The largest magnitude that a partial sum can have: of inputs up to `lhs`, with these weights summed over
    `contract`.
    """
    sums = np.abs(np.asarray(weight, np.int64)).sum(axis=contract)
    return int(lhs * sums.max(initial=0))


def integer_product(
    operator: Callable, lhs: Integer[Array, "..."], rhs: Integer[Array, "..."], *args: Any, largest: int, **kwargs: Any
) -> Int32[Array, "..."]:
    """`operator` (`lax.dot_general` or `lax.conv_general_dilated`, with its arguments) of two integer arrays, in int32.

    No partial sum may exceed `largest`, which `largest_sum` proves from the weights.
    """
    kwargs = kwargs | {"preferred_element_type": jnp.int32, "precision": None}
    if lhs.dtype == rhs.dtype == jnp.int8 and jax.default_backend() != "cpu":
        return operator(lhs, rhs, *args, **kwargs)
    if largest <= EXACT_IN_FLOAT32:
        kwargs |= {"preferred_element_type": jnp.float32, "precision": jax.lax.Precision.HIGHEST}
        return operator(_float(lhs), _float(rhs), *args, **kwargs).astype(jnp.int32)
    return operator(lhs.astype(jnp.int32), rhs.astype(jnp.int32), *args, **kwargs)


def _float(x: Integer[Array, "..."]) -> Float[Array, "..."]:
    return x.astype(jnp.float32)
