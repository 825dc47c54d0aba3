"""Levels fitted to the tensor: those of least squared error for the data that the observer saw, by Lloyd's algorithm.

    x_hat = s * y_i,    y_i the fitted level nearest to x / s

Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982; Max, "Quantizing for
Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960. See `grids/lloyd_max.py` for the algorithm.

The scale is the observer's, one for each group; the levels, in units of the scale, are shared by the tensor. Their fit
starts from the levels of the spec's grid and counts the error of every group as it falls on x. Neither is moved by
training, as with a static scale.

The grid of the spec stays what it is: between x and its rounding lies the piecewise linear map that takes the
fitted levels to those of the grid. It takes the middle between two neighbours to the middle, so that
rounding there is rounding to the nearest fitted level. (Stochastic rounding stays unbiased, since the map is linear
between levels.) The gradient of x is the estimator's, as if the map had slope 1.

Differs from Lloyd and Max: the values are those of the observer's histogram, spread evenly over bins of relative width
2^-8.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups
from qresearch.core.levels import level_index
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent
from qresearch.core.spec import Granularity
from qresearch.grids.levels import Levels
from qresearch.grids.lloyd_max import fit_levels
from qresearch.observers.histogram import MAGNITUDES, Histogram, bin_edges


@pytree_dataclass
class LloydMax:
    """Fitted levels, for grids that are a list of levels and observers that keep a histogram (mse, percentile)."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def check(self, spec):
        if not isinstance(spec.grid, Levels):
            raise ValueError(
                f"grid={spec.grid.describe()}: LloydMax moves the levels of a list, and this grid has none; "
                "use format=lloyd_max, apot, nf4 or levels."
            )
        whole = dataclasses.replace(spec, granularity=Granularity.tensor, block_size=None)
        example = jax.ShapeDtypeStruct((1, 1), jnp.float32)
        kept = jax.eval_shape(lambda x: self.observer.measure(x, contract=(0,), spec=whole), example)
        if not isinstance(kept, Histogram):
            raise ValueError(
                f"observer={type(self.observer).__name__} keeps no histogram of the values, to which LloydMax fits its "
                "levels; use observer=mse or percentile."
            )

    def init(self, statistic, spec):
        scale, _ = self.observer.resolve(statistic, spec)
        counts = statistic.counts.reshape(scale.size, -1).astype(jnp.float32)
        start = jnp.asarray(spec.grid.levels, jnp.float32)
        levels = fit_levels(_bins(), counts, scales=scale.reshape(-1), start=start)
        return {"scale": scale, "levels": levels}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        scale, levels = jax.lax.stop_gradient((qparams["scale"], qparams["levels"]))
        step = broadcast_groups(represent(scale, spec), x.shape)
        v = jax.lax.stop_gradient(x).astype(jnp.float32) / step
        inner = jnp.clip(v, levels[0], levels[-1])
        mapped = jnp.interp(inner, levels, spec.grid.levels) + (v - inner)  # what is clipped stays outside the grid
        rounded = fake_quantize(_with_gradient_of(x, mapped * step), scale, None)
        code = level_index(jax.lax.stop_gradient(rounded).astype(jnp.float32) / step, spec.grid.levels)
        return _with_gradient_of(rounded, jnp.where(jnp.isnan(v), v, levels[code] * step))


def _bins():
    """The ends of the histogram's bins; the bin of zero is zero itself."""
    edges = bin_edges()
    return jnp.stack([edges[:-1], edges[1:]]).at[:, MAGNITUDES].set(0.0)


def _with_gradient_of(x, value):
    """`value`, with the gradient of `x` and in its dtype."""
    zero = x - jax.lax.stop_gradient(x)
    return jax.lax.stop_gradient(value).astype(x.dtype) + jnp.where(jnp.isnan(zero), 0.0, zero)  # of infinity, NaN
