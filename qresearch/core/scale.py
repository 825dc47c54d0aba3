"""From the range of a tensor to its scale and zero point, and from any scale to one that its format holds.

    symmetric:  scale = max|x| / reach                         reach: the value that the largest magnitude maps to
    affine:     scale = (high - low) / (grid.high - grid.low)  (half_step: + 1)
                zero_point = grid.low - low / scale,           rounded and clipped to the codes where it is an integer;
                                                               then low <= 0 <= high, so that 0.0 is exact

The affine form is that of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877, section 3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.division import divide
from qresearch.core.octave import octave
from qresearch.core.spec import POWERS_OF_TWO, QuantSpec, ScaleFormat, ScaleRule

Scale = Float[Array, "..."]
SMALLEST = float(jnp.finfo(jnp.float32).tiny)
LARGEST_E4M3 = 448.0


def scale_from_range(low: Scale, high: Scale, spec: QuantSpec) -> tuple[Scale, Scale | None]:
    """Scale and zero point (None for a symmetric grid) that cover low..high; a range of zero width gets scale 1."""
    grid = spec.grid
    if grid.symmetric:
        return scale_from_magnitude(jnp.where(grid.low < 0, jnp.maximum(-low, high), high), spec), None
    half, nudged = grid.reach - grid.high, grid.zero_point == "integer"
    if nudged:
        low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = stored_scale(divide(high - low, grid.high - grid.low + 2 * half), spec)
    zero_point = grid.low - half - divide(low, scale)
    return scale, jnp.clip(jnp.round(zero_point), grid.low, grid.high) if nudged else zero_point


def scale_from_magnitude(largest: Scale, spec: QuantSpec) -> Scale:
    """The scale of a symmetric grid for a largest magnitude."""
    grid, rule = spec.grid, spec.scale_rule
    largest = jnp.maximum(largest, 0.0)
    if rule in (ScaleRule.floor, ScaleRule.even):
        return usable_scale(_power_below(largest, spec))
    return stored_scale(divide(largest, grid.reach), spec)


def _power_below(largest, spec):
    """The power of two by the rules floor and even, for a largest magnitude."""
    top, power = octave(spec.grid.high), octave(largest)
    scale = power / top
    if spec.scale_rule is not ScaleRule.even:
        return scale
    # Rounded at the step of the top octave, a magnitude of this share of its octave is twice the octave.
    share, threshold = largest / power, 2.0 - 0.5 * spec.grid.top_step / top
    return jnp.where((share >= threshold) & (share > spec.grid.high / top), 2 * scale, scale)


def stored_scale(scale: Scale, spec: QuantSpec) -> Scale:
    """The scale as its format holds it, with 1 for a group of zeros (in e4m3: the smallest that the tensor has)."""
    return usable_scale(represent(scale, spec))  # in this order: a 1 would be the largest of the scales in e4m3


def usable_scale(scale: Scale) -> Scale:
    """The scale, with 1 in place of zero: a group that holds nothing but zeros."""
    # A division by a subnormal scale overflows, so such a group counts as empty.
    return jnp.where(scale < SMALLEST, jnp.ones_like(scale), scale)


def represent(scale: Scale, spec: QuantSpec) -> Scale:
    """The scale as its format holds it, with the gradient passed straight through.

    A scale that is held already stays as it is.
    """
    if spec.scale_format is ScaleFormat.float32:
        return scale
    held = jax.lax.stop_gradient(_held(jax.lax.stop_gradient(scale), spec))
    return held + (scale - jax.lax.stop_gradient(scale))


def _held(scale, spec):
    if spec.scale_format is ScaleFormat.bfloat16:
        return scale.astype(jnp.bfloat16).astype(jnp.float32)
    if spec.scale_format in POWERS_OF_TWO:
        lower = octave(scale)
        if spec.scale_rule is ScaleRule.ceil:
            return jnp.where(scale > lower, 2 * lower, lower)
        if spec.scale_rule is ScaleRule.nearest:
            return jnp.where(scale > lower * jnp.sqrt(jnp.float32(2)), 2 * lower, lower)
        # The rules are said of the largest magnitude, which the scale takes to the reach.
        return lower * _power_below(scale / lower * spec.grid.reach, spec)
    # One number of float32 for the tensor; the rest in e4m3, whose smallest number is 2^-9.
    tensor = jnp.maximum(divide(usable_scale(jnp.max(scale)), jnp.float32(LARGEST_E4M3)), SMALLEST * 2.0**9)
    held = divide(scale, tensor).astype(jnp.float8_e4m3fn).astype(jnp.float32)
    return jnp.maximum(held, 2.0**-9) * tensor


def scale_bytes(scales: int, spec: QuantSpec) -> int:
    """Bytes that `scales` scales of one tensor take."""
    if spec.scale_format is ScaleFormat.e4m3:
        return scales + 4
    return scales * {ScaleFormat.float32: 4, ScaleFormat.bfloat16: 2}.get(ScaleFormat(spec.scale_format), 1)
