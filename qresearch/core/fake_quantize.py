"""Float to float on the grid, differentiable: the one hot path of quantization-aware training.

    v = x (1 / s) + z,    q = Q(v): clipped to the grid, then rounded,    x_hat = (q - z) s
    a whole z:  q = z + round(clip(x (1 / s), low - z, high - z))

The reciprocal is rounded first, as in torch: XLA turns some divisions by a broadcast scale into this product and not
others, and the last place of v decides about values next to a tie. Said here, it is the same everywhere.

The derivative of Q is that of an `estimator`, which turns the gradient of q into one of v. The chain rule gives the
rest:

    dv    = pull(g)                    (clipped straight-through: g inside the range, 0 outside)
    dx    = dv
    ds    = g (q - z) - dv (v - z)     inside: g (q - v); outside: g (q - z)    (Esser et al., ICLR 2020,
                                       arXiv:1902.08153, equation 3, for z = 0)
    dz    = s (dv - g)

A value on the end of the grid counts as inside, so the element that sets an absmax scale keeps its gradient. Clip,
then round: the other order puts every value of the last half step on the bound of the clip, where its
derivative is halved.

The backward pass is written by hand so that it reads x once; the tests hold it equal to what autodiff
derives. NaN stays NaN; infinities are clipped to the ends. Neither the grid nor the estimator takes a gradient.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from qresearch.core.estimator import Estimator, Rounded
from qresearch.core.granularity import reduce_groups, split, spread
from qresearch.core.grid import by_range, clip
from qresearch.core.pytree import Number
from qresearch.core.rounding import Rounding, round_to_whole
from qresearch.core.scale import SMALLEST, represent
from qresearch.core.spec import QuantSpec

MARGIN = 2.0**-21  # of the range: what counts as lying on its bound. A rounded product is off by 2^-23 of it.


def fake_quantize(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Float[Array, "..."] | None,
    spec: QuantSpec,
    estimator: Estimator,
    *,
    progress: Number = 1.0,
    key: Any = None,
) -> Float[Array, "..."]:
    """`x` rounded to the grid of `spec`, in the dtype of `x`; arithmetic is float32.

    `scale` and `zero_point` have the rank of `x` and sizes that divide its own (see `granularity.py`); the scale is
    brought to the format of `spec` first. `progress` is the share of the training that is done, `key` the random
    key of stochastic rounding.

    Raises ValueError for stochastic rounding without a key, and, outside of a compiled program, for a scale that is
    zero, negative, subnormal or not finite.
    """
    check_inputs(scale, spec, key)
    scale = represent(scale, spec)
    rounded = _fake_quantize(x.astype(jnp.float32), scale, zero_point, spec, estimator, progress, key)
    return rounded.astype(x.dtype)


def round_to_grid(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Float[Array, "..."] | None,
    spec: QuantSpec,
) -> Float[Array, "..."]:
    """The values of `fake_quantize` in float32, without a gradient; stochastic rounding takes the nearer value."""
    if spec.rounding is Rounding.stochastic:
        spec = dataclasses.replace(spec, rounding=Rounding.half_even)
    return _rounded(x.astype(jnp.float32), represent(scale, spec), zero_point, spec, None)


def check_inputs(scale: Any, spec: QuantSpec, key: Any) -> None:
    """Raise ValueError for a scale that is no positive number, where it is known yet, and for stochastic rounding
    without a random key.
    """
    if not isinstance(scale, Tracer):
        wrong = np.asarray(scale)[~(np.isfinite(scale) & (np.asarray(scale) >= SMALLEST))]
        if wrong.size:
            raise ValueError(
                f"scale={wrong[0]} ({wrong.size} of {np.size(scale)}) is not a positive normal number; a "
                "group of zeros has scale 1 (see usable_scale), and NaN or infinity in the data leaves no scale at all."
            )
    if spec.rounding is Rounding.stochastic and key is None:
        raise ValueError("rounding=stochastic needs a random key; pass key=jax.random.key(...).")


def grid_values(x, scale, zero_point, spec: QuantSpec, key=None):
    """(v, q) of the formula above, both split into groups."""
    grid, rounding = spec.grid, Rounding(spec.rounding)
    v = split(x, scale.shape) * spread(1.0 / scale, x.shape)
    noise = None if key is None or rounding is not Rounding.stochastic else jax.random.uniform(key, v.shape)
    if zero_point is None:
        return v, grid.round(v, rounding, noise)
    z = spread(zero_point, x.shape)
    if grid.zero_point == "float":
        return v + z, grid.round(v + z, rounding, noise)
    # A whole zero point is added to what was rounded, as integer runtimes do: the sum with v would lose its last
    # places, and a compiler may or may not fuse it with the product.
    return v + z, round_to_whole(clip(v, grid.low - z, grid.high - z), rounding, noise) + z


@functools.partial(jax.jit, inline=True)  # traced once for each shape, however many layers share it
def _rounded(x, scale, zero_point, spec, key):
    _, q = grid_values(x, scale, zero_point, spec, key)
    centred = q if zero_point is None else q - spread(zero_point, x.shape)
    return (centred * spread(scale, x.shape)).reshape(x.shape)


@jax.custom_vjp
def _fake_quantize(x, scale, zero_point, spec, estimator, progress, key):
    return _rounded(x, scale, zero_point, spec, key)


def _forward(x, scale, zero_point, spec, estimator, progress, key):
    saved = (x, scale, zero_point, spec, estimator, progress, key)
    return _rounded(x, scale, zero_point, spec, key), saved


def _backward(saved, g):
    return *_gradients(*saved, g), None, None, None, None


@functools.partial(jax.jit, inline=True)
def _gradients(x, scale, zero_point, spec, estimator, progress, key, g):
    v, q = grid_values(x, scale, zero_point, spec, key)
    grid, step = spec.grid, spread(scale, x.shape)
    offset = 0.0 if zero_point is None else spread(zero_point, x.shape)
    # The margin keeps a value on the bound inside, whichever way its product was rounded. Both gradients are
    # selected by comparing x anew: a mask that they share would be kept as an array by XLA:CPU, and reading it back
    # costs half as much again as all the rest.
    margin = MARGIN * (grid.high - grid.low)
    low, high = ((bound - offset) * step for bound in (grid.low - margin, grid.high + margin))
    split_x, split_g = split(x, scale.shape), split(g, scale.shape)
    inside = (split_x >= low) & (split_x <= high)
    dv = estimator.pull(split_g, Rounded(v, q, inside, grid.low, grid.high), progress)
    ds = split_g * (q - v) + (split_g - dv) * (v - offset)  # the form above without its cancellation
    if estimator.clips:
        ends = split_g * (grid.low - offset), split_g * (grid.high - offset)
        ds, dv = by_range(split_x, ds, low, high, outside=ends), by_range(split_x, dv, low, high, outside=(0.0, 0.0))
    ds = reduce_groups(jnp.sum, ds.reshape(x.shape), scale.shape)
    if zero_point is None:
        return dv.reshape(x.shape), ds, None
    dz = step * (dv - split_g)
    return dv.reshape(x.shape), ds, reduce_groups(jnp.sum, dz.reshape(x.shape), scale.shape)


_fake_quantize.defvjp(_forward, _backward)
