"""The mean magnitude sets the scale: the starting point of learned step sizes.

    scale = 2 * mean|x| / sqrt(qmax)

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization", ICLR 2020,
arXiv:1902.08153, section 2.1.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.scale import stored_scale


class MeanMagnitudeStatistic(NamedTuple):
    total: Float[Array, "..."]  # sum of |x| of each group
    count: Float[Array, ""]  # elements in a group


@pytree_dataclass
class MeanMagnitude:
    """Scale proportional to the mean magnitude, for symmetric grids of equal steps."""

    def check(self, spec):
        if not spec.grid.symmetric:
            raise ValueError(
                "grid.zero_point: the mean magnitude gives no zero point; use observer=minmax, percentile or mse."
            )
        if not spec.grid.uniform:
            raise ValueError(
                f"grid={spec.grid.describe()}: the mean magnitude is a rule for equal steps; use absmax or mse."
            )

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        total = reduce_groups(jnp.sum, jnp.abs(x.astype(jnp.float32)), groups)
        return MeanMagnitudeStatistic(total, jnp.float32(x.size / total.size))

    def combine(self, a, b):
        return MeanMagnitudeStatistic(a.total + b.total, a.count + b.count)

    def resolve(self, statistic, spec):
        scale = 2.0 * statistic.total / statistic.count / jnp.sqrt(spec.grid.high)
        return stored_scale(scale, spec), None
