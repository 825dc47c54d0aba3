"""From the range of a tensor to its scale and zero point.

    symmetric:  scale = max|x| / qmax                          (half_step: / (qmax + 1/2))
    affine:     scale = (high - low) / (qmax - qmin)           (half_step: / (qmax - qmin + 1))
                zero_point = round(qmin - low / scale), clipped to the codes
                low <= 0 <= high, so that 0.0 is exact

The affine form is that of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, arXiv:1712.05877, section 3.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.spec import QuantSpec, Range

Scale = Float[Array, "..."]


def scale_from_range(low: Scale, high: Scale, spec: QuantSpec) -> tuple[Scale, Scale | None]:
    """Scale and zero point (None for a symmetric grid) that cover low..high; a range of zero width gets scale 1."""
    half = 0.5 if spec.range is Range.half_step else 0.0
    if spec.symmetric:
        largest = jnp.maximum(-low, high) if spec.signed else jnp.maximum(high, 0.0)
        scale = largest / (spec.qmax + half)
        return usable_scale(scale), None
    low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    scale = usable_scale((high - low) / (spec.qmax - spec.qmin + 2 * half))
    zero_point = jnp.round(spec.qmin - half - low / scale)
    return scale, jnp.clip(zero_point, spec.qmin, spec.qmax)


def usable_scale(scale: Scale) -> Scale:
    """The scale, with 1 in place of zero: a group that holds nothing but zeros."""
    # A division by a subnormal scale overflows, so such a group counts as empty.
    return jnp.where(scale < jnp.finfo(jnp.float32).tiny, jnp.ones_like(scale), scale)
