"""Products of integers that are summed in int32: the sum is exact, whichever unit of the machine computes it.

A float32 holds every integer up to 2^24, and so every partial sum of integers whose magnitudes add up to no more, in
any order. Where that bound holds, a product of integers may run on float units and still be exact; where it does not,
it runs on integers.

On GPU and TPU products of int8 are native. Inputs from 0 to 255 are shifted there by 128 into int8; what the shift
takes from a sum, 128 times the weights that meet an input, is added again:

    sum(x * w) = sum((x - 128) * w) + 128 * sum(1 * w)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2.3 (zero points).
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
    operator: Callable,
    lhs: Integer[Array, "..."],
    rhs: Integer[Array, "..."],
    *args: Any,
    largest: int,
    native: bool | None = None,
    **kwargs: Any,
) -> Int32[Array, "..."]:
    """`operator` (`lax.dot_general` or `lax.conv_general_dilated`, with its arguments) of two integer arrays, in int32.

    No partial sum may exceed `largest`, which `largest_sum` proves from the weights. `native` says whether the machine
    multiplies int8 fast; None: every one but a CPU does.
    """
    kwargs = kwargs | {"preferred_element_type": jnp.int32, "precision": None}
    native = jax.default_backend() != "cpu" if native is None else native
    if native and rhs.dtype == jnp.int8 and lhs.dtype in (jnp.int8, jnp.uint8):
        if lhs.dtype == jnp.int8:
            return operator(lhs, rhs, *args, **kwargs)
        shifted = (lhs ^ 128).view(jnp.int8)  # x - 128
        ones = jnp.ones((1, *lhs.shape[1:]) if operator is jax.lax.conv_general_dilated else lhs.shape, jnp.int8)
        return operator(shifted, rhs, *args, **kwargs) + 128 * operator(ones, rhs, *args, **kwargs)
    if largest <= EXACT_IN_FLOAT32:
        kwargs |= {"preferred_element_type": jnp.float32, "precision": jax.lax.Precision.HIGHEST}
        return operator(_float(lhs), _float(rhs), *args, **kwargs).astype(jnp.int32)
    return operator(lhs.astype(jnp.int32), rhs.astype(jnp.int32), *args, **kwargs)


def _float(x: Integer[Array, "..."]) -> Float[Array, "..."]:
    return x.astype(jnp.float32)
