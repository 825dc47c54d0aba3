"""The range with the least mean squared error, found by a grid search over clip ratios.

    r* = argmin_r  sum_i (x_i - Q_r(x_i))^2,    Q_r: the grid over r * [low, high]

The sum runs over the bins of a histogram, each represented by a few evenly spaced points, so that one pass
over the data serves all ratios and all bit-widths. Ratios are spaced geometrically from `lowest` to 1.

Choukroun, Kravchik, Yang, Kisilev, "Low-bit Quantization of Neural Networks for Efficient Inference", 2019,
arXiv:1902.06822, section 3; Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for
rapid-deployment", NeurIPS 2019, arXiv:1810.05723, derive the optimum for Gaussian and Laplace data.
"""

import jax
import jax.numpy as jnp

from qresearch.core.fake_quantize import round_to_grid
from qresearch.core.granularity import scale_shape
from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.core.scale import scale_from_range
from qresearch.observers.histogram import MAGNITUDES, Histogram, bin_edges, bin_points, histogram

POINTS = 4  # in each bin: enough that 16 points fall into one step of the widest bin at 8 bits


@pytree_dataclass
class MSE:
    """Range of least squared error among `candidates` clip ratios from `lowest` to 1."""

    lowest: Number = leaf(0.05)
    candidates: int = 96

    def __post_init__(self):
        if isinstance(self.lowest, (int, float)) and not 0 < self.lowest <= 1:
            raise ValueError(
                f"lowest={self.lowest} is outside (0, 1]; it is the smallest clip ratio tried, for example 0.05."
            )
        if self.candidates < 2:
            raise ValueError(f"candidates={self.candidates} is no search; give at least 2, for example 96.")

    def check(self, spec):
        """It fits every grid."""

    def measure(self, x, *, contract, spec):
        return histogram(x, scale_shape(x.shape, contract=contract, spec=spec))

    def combine(self, a, b):
        return Histogram(a.counts + b.counts)

    def resolve(self, statistic, spec):
        groups = statistic.counts.shape[:-1]
        flat = statistic.counts.reshape(-1, statistic.counts.shape[-1]).astype(jnp.float32)
        best = jax.lax.map(lambda counts: self._best_range(counts, spec), flat)
        low, high = (side.reshape(groups) for side in best)
        return scale_from_range(low, high, spec)

    def _best_range(self, counts, spec):
        low, high = _range(counts)
        points = bin_points(POINTS)
        exponents = jnp.linspace(1.0, 0.0, self.candidates, dtype=jnp.float32)
        share = counts / jnp.maximum(jnp.sum(counts), 1.0)
        ratios = jnp.power(jnp.float32(self.lowest), exponents)

        def error(ratio):
            scale, zero_point = scale_from_range(ratio * low, ratio * high, spec)
            zero_point = None if zero_point is None else zero_point.reshape(1, 1)
            squared = (points - round_to_grid(points, scale.reshape(1, 1), zero_point, spec)) ** 2
            return jnp.sum(share * jnp.mean(squared, axis=0))

        best = ratios[jnp.argmin(jax.lax.map(error, ratios))]
        return best * low, best * high


def _range(counts):
    """The outer edges of the occupied bins."""
    edges, occupied = bin_edges(), (counts > 0).at[MAGNITUDES].set(False)  # zero reaches nowhere
    low = jnp.min(jnp.where(occupied, edges[:-1], 0.0))
    high = jnp.max(jnp.where(occupied, edges[1:], 0.0))
    return low, high
