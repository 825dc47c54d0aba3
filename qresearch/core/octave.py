"""Powers of two by the bits of float32: exact, where exp2 and log2 of an array need not be."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_MANTISSA, _BIAS = 23, 127
_EXPONENT_MASK = 0x7F800000


def power_of_two(exponent: Int[Array, "..."]) -> Float[Array, "..."]:
    """2^exponent for -126 <= exponent <= 127."""
    return jax.lax.bitcast_convert_type((exponent + _BIAS) << _MANTISSA, jnp.float32)


def octave(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The largest power of two not above |x|, at least 2^-126 for a normal |x|; 0 for zero and subnormal numbers."""
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, jnp.int32) & _EXPONENT_MASK, jnp.float32)


def exponent_of(power: Float[Array, "..."]) -> Int[Array, "..."]:
    """k of a normal power of two 2^k."""
    return (jax.lax.bitcast_convert_type(power, jnp.int32) >> _MANTISSA) - _BIAS
