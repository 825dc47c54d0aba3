"""How a number between two neighbours of a grid becomes one of them.

Each function here rounds to whole numbers; a grid whose neighbours are not one apart rounds the position
between them.
"""

import enum

import jax.numpy as jnp
from jaxtyping import Array, Float


class Rounding(enum.StrEnum):
    """Which neighbour is taken."""

    half_even = "half_even"  # the nearer one; halfway, the one whose last binary digit is 0
    half_away = "half_away"  # the nearer one; halfway, the one farther from zero
    floor = "floor"  # the lower one
    ceil = "ceil"  # the upper one
    stochastic = "stochastic"  # the upper one with a probability equal to the distance from the lower one


def round_to_whole(
    v: Float[Array, "..."], rounding: Rounding, noise: Float[Array, "..."] | None
) -> Float[Array, "..."]:
    """`v` rounded to whole numbers; `noise` is uniform in [0, 1), of the shape of `v`, for stochastic rounding alone.

    NaN stays NaN.
    """
    if rounding is Rounding.half_even:
        return jnp.round(v)
    if rounding is Rounding.ceil:
        return jnp.ceil(v)
    if rounding is Rounding.half_away:
        magnitude, whole = jnp.abs(v), jnp.floor(jnp.abs(v))
        farther = magnitude - whole >= 0.5  # exact, where |v| + 1/2 would not be
        return jnp.copysign(jnp.where(farther, whole + 1, whole), v)
    lower = jnp.floor(v)
    if rounding is Rounding.floor:
        return lower
    assert noise is not None  # core/fake_quantize.py asks for a key
    return jnp.where(noise < v - lower, lower + 1, lower)
