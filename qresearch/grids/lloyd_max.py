"""Levels of least mean squared error: for a distribution, or fitted to data.

    thresholds  t_i = (y_i + y_(i+1)) / 2        (1)  every value takes the nearest level
    levels      y_i = E[x | t_(i-1) < x <= t_i]  (2)  every level is the mean of its cell

Max, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960; Lloyd, "Least
Squares Quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982 (written in 1957). For a
distribution both conditions are solved at once by Newton's method in float64, from levels as dense as the cube root of
the density (Panter, Dite, Proceedings of the IRE 39(1), 1951); for the log-concave densities here the solution is
unique (Fleischer, IEEE International Convention Record, 1964). For data the two are applied in turn, Lloyd's Method I.
"""

import enum
import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qresearch.grids.levels import Levels

LARGEST_BITS = 8
STEPS = 20  # of Newton's method, which needs about five
SETTLED = 1e-11  # the share of the outermost level below which a move ends them
ROUNDS = 5000  # of Lloyd's: enough up to 6 bits; with more levels they gain little each and go on for long
STILL = 2e-7  # the share of the outermost level below which a move ends Lloyd's rounds


class Distribution(enum.StrEnum):
    """Symmetric densities of variance 1."""

    gaussian = "gaussian"
    laplace = "laplace"


def lloyd_max(bits: int, distribution: Distribution = Distribution.gaussian, signed: bool = True) -> Levels:
    """2^bits levels in units of the standard deviation: best for the whole distribution, or, unsigned, for max(x, 0)
    with one level at zero.

    Raises ValueError for bits outside 1..8.
    """
    if not 1 <= bits <= LARGEST_BITS:
        raise ValueError(f"bits={bits} is outside 1..{LARGEST_BITS}, the widths of Lloyd-Max levels.")
    count = 2**bits
    if signed:
        return Levels(optimal_levels(count, distribution).tolist(), f"lloyd-max {distribution}")
    # Half of a symmetric quantizer with a level at zero: what lies below does not move what lies above.
    return Levels(optimal_levels(2 * count - 1, distribution)[count - 1 :].tolist(), f"lloyd-max {distribution}")


def optimal_levels(count: int, distribution: Distribution) -> np.ndarray:
    """The `count` levels in float64, in rising order."""
    distribution, odd = Distribution(distribution), bool(count % 2)
    ranks = np.arange(count // 2) + (1.0 if odd else 0.5)
    levels = np.array([_dense(0.5 + rank / count, distribution) for rank in ranks])  # those above zero
    for _ in range(STEPS):
        excess, slope = _conditions(levels, odd, distribution)
        move = np.linalg.solve(slope, excess)
        levels = levels - move
        if np.max(np.abs(move)) < SETTLED * levels[-1]:
            break
    else:
        raise ArithmeticError(f"Newton's method did not settle for {count} levels of {distribution}.")
    return np.concatenate([-levels[::-1], [0.0] if odd else [], levels])


def _conditions(levels: np.ndarray, odd: bool, distribution: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """y_i less the mean of its cell, and the derivative by the levels, for the levels above zero."""
    inner = (levels[:-1] + levels[1:]) / 2
    thresholds = [levels[0] / 2 if odd else 0.0, *inner, math.inf]
    density, tail, moment = np.array([_tails(t, distribution) for t in thresholds]).T
    mass = tail[:-1] - tail[1:]
    mean = (moment[:-1] - moment[1:]) / mass
    # How the mean of a cell moves with its lower and with its upper threshold; the last cell has no upper one.
    by_lower = density[:-1] * (mean - thresholds[:-1]) / mass
    by_upper = np.append(density[1:-1] * (inner - mean[:-1]) / mass[:-1], 0.0)
    by_lower_level = by_lower * np.append(1.0 if odd else 0.0, np.ones(len(levels) - 1)) / 2
    slope = np.eye(len(levels)) - np.diag(by_lower_level + by_upper / 2)
    slope -= np.diag(by_lower[1:] / 2, -1) + np.diag(by_upper[:-1] / 2, 1)
    return levels - mean, slope


def _tails(t: float, distribution: Distribution) -> tuple[float, float, float]:
    """Density at t >= 0, probability of x > t, and the integral of x times the density from t on."""
    if t == math.inf:
        return 0.0, 0.0, 0.0
    if distribution is Distribution.gaussian:
        density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        return density, math.erfc(t / math.sqrt(2)) / 2, density
    tail = math.exp(-math.sqrt(2) * t) / 2
    return math.sqrt(2) * tail, tail, tail * (t + 1 / math.sqrt(2))


def _dense(p: float, distribution: Distribution) -> float:
    """The p-quantile, p >= 1/2, of the density that is the cube root of the distribution's, normalized."""
    if distribution is Distribution.gaussian:
        return math.sqrt(3) * NormalDist().inv_cdf(p)
    return -3 / math.sqrt(2) * math.log(2 * (1 - p))


def fit_levels(
    bins: Float[Array, "2 bins"],
    weights: Float[Array, "groups bins"],
    *,
    scales: Float[Array, " groups"],
    start: Float[Array, " levels"],
) -> Float[Array, " levels"]:
    """Levels y such that scale * y is near the values of every group; Lloyd's algorithm from the levels `start`.

    `bins` holds the lower and the upper ends of intervals in rising order, in which values are spread evenly; two equal
    ends are one value. `weights` counts the values, group by group; the squared errors of all groups are added up. A
    level whose cell is empty stays where it is. No round raises the error: the result is at least as good as `start`.
    """
    share = scales / jnp.max(scales)
    sums = jax.vmap(lambda weights: _sums(bins, weights))(weights)

    def move(levels):
        inner = levels[:-1] + (levels[1:] - levels[:-1]) / 2
        below, above = jax.vmap(lambda *group: _sides(bins, *group))(inner[None] * scales[:, None], weights, sums)
        mass, moment = jnp.moveaxis(jax.vmap(_cells)(below, above), 1, 0)
        # Least squares over the groups: the sum of s (x - s y) is 0.
        product, square = (jnp.sum(share[:, None] * part, axis=0) for part in (moment, scales[:, None] * mass))
        return jnp.where(square > 0, product / jnp.where(square > 0, square, 1.0), levels)

    def advance(state):
        levels, _, rounds = state
        moved = move(levels)
        return moved, jnp.max(jnp.abs(moved - levels)), rounds + 1

    def going(state):
        levels, moved, rounds = state
        return (moved > STILL * jnp.max(jnp.abs(levels))) & (rounds < ROUNDS)

    return jax.lax.while_loop(going, advance, (start, jnp.float32(jnp.inf), jnp.int32(0)))[0]


def _sums(bins, weights):
    """(mass, integral of x) of all bins before each bin and of all after it, for one more bin than there are."""
    values = jnp.stack([weights, weights * (bins[0] + bins[1]) / 2])
    before = jnp.pad(jnp.cumsum(values, axis=1), ((0, 0), (1, 0)))
    after = jnp.pad(jnp.cumsum(values[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 2)))[:, 1:]
    return before, after


def _sides(bins, thresholds, weights, sums):
    """(mass, integral of x) below and above each threshold."""
    at = jnp.searchsorted(bins[1], thresholds, side="right")  # the first bin that reaches beyond
    low, high, weight = jnp.pad(jnp.stack([*bins, weights]), ((0, 0), (0, 1)))[:, at]
    cut = jnp.clip(thresholds, low, high)
    share = (cut - low) / jnp.where(high > low, high - low, 1.0)
    below, above = weight * share, weight * (1 - share)
    below = sums[0][:, at] + jnp.stack([below, below * (low + cut) / 2])
    return below, sums[1][:, at] + jnp.stack([above, above * (cut + high) / 2])


def _cells(below, above):
    """(mass, integral of x) between neighbouring thresholds, as differences of the smaller sums: float32 would lose a
    tail in the sum of all.
    """
    total, none = below[:, :1] + above[:, :1], jnp.zeros_like(below[:, :1])
    below, above = jnp.concatenate([none, below, total], axis=1), jnp.concatenate([total, above, none], axis=1)
    from_below = below[0, 1:] <= above[0, :-1]
    return jnp.where(from_below[None], below[:, 1:] - below[:, :-1], above[:, :-1] - above[:, 1:])
