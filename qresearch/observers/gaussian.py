"""The scale that would be best if the values were normal: their root mean square times a number of the grid alone.

    scale = sqrt(E x^2 / E z^2) * s*,    s* = argmin_s E (z - s Q(z / s))^2,    z ~ N(0, 1)

An unsigned grid rounds max(z, 0) in place of z. Panferov, Chen, Tabesh, Castro, Nikdan, Alistarh, "QuEST: Stable
Training of LLMs with 1-Bit Weights and Activations", 2025, arXiv:2502.05003 (format=mid_rise); for the uniform grids s*
is the table of Max, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960.

As in QuEST no mean is subtracted: the grids here are centred at zero. Differs from QuEST: its Hadamard transform, which
makes values nearly normal, is no part of a scale; s* is searched for within the program, for any grid and any
bit-width, where QuEST has a table (whose numbers for 7 and 8 bits lie 0.3 % and 1 % below the optimum).
"""

import functools
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.rounding import Rounding
from qresearch.core.scale import stored_scale

POINTS = 8192  # an even number, so that none lies on a threshold at zero
SPREAD = 2.0  # they are quantiles of N(0, SPREAD^2): their distances vary, so that no step is a multiple of them
LOWEST, HIGHEST = 0.5, 8.0  # where the outermost level is sought, in standard deviations
CANDIDATES = 65  # of each of two searches; the second tells scales apart that differ by 0.14 %


class GaussianStatistic(NamedTuple):
    squares: Float[Array, "..."]  # sum of x^2 of each group
    count: Float[Array, ""]  # elements in a group


@pytree_dataclass
class Gaussian:
    """Scale of least squared error for normal values with the root mean square of the group."""

    def check(self, spec):
        if not spec.grid.symmetric:
            raise ValueError("grid.zero_point: a root mean square gives none; use observer=minmax, percentile or mse.")

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        squares = reduce_groups(jnp.sum, x.astype(jnp.float32) ** 2, groups)
        return GaussianStatistic(squares, jnp.float32(x.size / squares.size))

    def combine(self, a, b):
        return GaussianStatistic(a.squares + b.squares, a.count + b.count)

    def resolve(self, statistic, spec):
        root_mean_square = jnp.sqrt(statistic.squares / statistic.count)
        return stored_scale(root_mean_square * unit_scale(spec), spec), None


def unit_scale(spec) -> Float[Array, ""]:
    """The scale for normal values, on an unsigned grid their positive part, whose mean square is 1."""
    grid, (points, weights) = spec.grid, map(jnp.asarray, _normal())
    z = jnp.where(grid.low < 0, points, jnp.maximum(points, 0.0))
    rounding = Rounding.half_even if spec.rounding is Rounding.stochastic else spec.rounding
    outermost = jnp.maximum(-grid.low, grid.high)

    def error(clip):
        step = clip / outermost
        squared = (z - step * grid.round(z / step, rounding, None)) ** 2
        mean = jnp.sum(weights * squared)
        return jnp.where(jnp.isfinite(mean), mean, jnp.inf)  # a float grid that does not saturate

    ratio = (HIGHEST / LOWEST) ** (1 / (CANDIDATES - 1))
    steps = np.arange(CANDIDATES)
    coarse = _best(error, jnp.asarray(LOWEST * ratio**steps, jnp.float32))
    fine = _best(error, coarse * jnp.asarray(ratio ** np.linspace(-1, 1, CANDIDATES), jnp.float32))
    return fine / outermost / jnp.sqrt(jnp.sum(weights * z**2))


def _best(error, candidates):
    return candidates[jnp.argmin(jax.lax.map(error, candidates))]


@functools.cache
def _normal() -> tuple[np.ndarray, np.ndarray]:
    """Points and their probabilities under N(0, 1)."""
    quantile = np.array([NormalDist().inv_cdf((i + 0.5) / POINTS) for i in range(POINTS)])
    weights = np.exp(-((SPREAD * quantile) ** 2 - quantile**2) / 2)
    return (SPREAD * quantile).astype(np.float32), (weights / weights.sum()).astype(np.float32)
