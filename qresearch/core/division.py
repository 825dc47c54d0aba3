"""Division as IEEE 754 has it, rounded once.

XLA turns x / s, with an s that is broadcast, into x * (1 / s): the quotient then differs in the last place for a
quarter to a half of all numbers. For scales, which are few, exactness is free.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def divide(x: Float[Array, "..."], s: Float[Array, "..."]) -> Float[Array, "..."]:
    """x / s, correctly rounded; `s` broadcasts against `x`."""
    # A divisor that depends on x, though only in the case of NaN, is not broadcast and is left alone.
    return x / jnp.where(jnp.isnan(x), jnp.float32(jnp.nan), s)
