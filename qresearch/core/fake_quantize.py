"""Float to float on the grid, differentiable: the one hot path of quantization-aware training.

    v = x / s + z,    q = round(clip(v, qmin, qmax)),    x_hat = (q - z) * s

Rounding is half to even and passes the gradient straight through (Bengio, Leonard, Courville, "Estimating or
Propagating Gradients Through Stochastic Neurons for Conditional Computation", 2013, arXiv:1308.3432); clipping passes
it inside the range:

    dx_hat/dx = 1 inside, 0 outside
    dx_hat/ds = q - v inside, q - z outside        (Esser et al., ICLR 2020, arXiv:1902.08153, eq. 3, for z = 0)
    dx_hat/dz = 0 inside, -s outside

A value on qmin or qmax counts as inside, so the element that sets an absmax scale keeps its gradient. Clip,
then round: the other order puts every value of the last half step on the bound of the clip, where its
derivative is halved.

The backward pass is written by hand so that it reads x once; the tests hold it equal to what autodiff
derives.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, split, spread
from qresearch.core.spec import QuantSpec

MARGIN = 2.0**-21  # of the range: what counts as lying on its bound. A rounded division is off by 2^-24 of it.


def fake_quantize(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Float[Array, "..."] | None,
    spec: QuantSpec,
) -> Float[Array, "..."]:
    """`x` rounded to the grid of `spec`, in the dtype of `x`; arithmetic is float32.

    `scale` and `zero_point` have the rank of `x` and sizes that divide its own (see `granularity.py`).
    """
    rounded = _fake_quantize(x.astype(jnp.float32), scale, zero_point, spec.qmin, spec.qmax)
    return rounded.astype(x.dtype)


def _by_range(x, inside, low, high, *, outside):
    """`inside` where low <= x <= high, else one of `outside`: two selects, faster on XLA:CPU than min and max."""
    return jnp.where(x < low, outside[0], jnp.where(x > high, outside[1], inside))


def codes_of(x, scale, zero_point, qmin, qmax):
    """(v, q) of the formula above, both split into groups."""
    v = split(x, scale.shape) / spread(scale, x.shape)
    if zero_point is not None:
        v = v + spread(zero_point, x.shape)
    return v, jnp.round(_by_range(v, v, qmin, qmax, outside=(qmin, qmax)))


@functools.partial(jax.jit, inline=True)  # traced once for each shape, however many layers share it
def _rounded(x, scale, zero_point, qmin, qmax):
    _, q = codes_of(x, scale, zero_point, qmin, qmax)
    centred = q if zero_point is None else q - spread(zero_point, x.shape)
    return (centred * spread(scale, x.shape)).reshape(x.shape)


@jax.custom_vjp
def _fake_quantize(x, scale, zero_point, qmin, qmax):
    return _rounded(x, scale, zero_point, qmin, qmax)


def _forward(x, scale, zero_point, qmin, qmax):
    return _rounded(x, scale, zero_point, qmin, qmax), (x, scale, zero_point, qmin, qmax)


def _backward(saved, g):
    return _gradients(*saved, g)


@functools.partial(jax.jit, inline=True)
def _gradients(x, scale, zero_point, qmin, qmax, g):
    v, q = codes_of(x, scale, zero_point, qmin, qmax)
    step, offset = spread(scale, x.shape), 0.0 if zero_point is None else spread(zero_point, x.shape)
    # The bounds are compared with x, not with v: XLA:CPU would keep an array that holds a division for both
    # gradients, and reading it back costs more than all the rest. The margin keeps a value on the bound
    # inside, whichever way its division was rounded.
    low, high = ((bound - offset) * step for bound in (qmin, qmax))
    split_x, split_g = split(x, scale.shape), split(g, scale.shape)
    margin = MARGIN * (qmax - qmin) * step
    bounds = (low - margin, high + margin)
    dx = _by_range(split_x, split_g, *bounds, outside=(0.0, 0.0)).reshape(x.shape)
    ds = split_g * _by_range(split_x, q - v, *bounds, outside=(qmin - offset, qmax - offset))
    ds = reduce_groups(jnp.sum, ds.reshape(x.shape), scale.shape)
    if zero_point is None:
        return dx, ds, None, None, None
    dz = _by_range(split_x, jnp.zeros_like(split_x), *bounds, outside=(-split_g * step, -split_g * step))
    return dx, ds, reduce_groups(jnp.sum, dz.reshape(x.shape), scale.shape), None, None


_fake_quantize.defvjp(_forward, _backward)
