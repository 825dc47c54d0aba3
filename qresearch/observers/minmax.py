"""The smallest and largest value set the range: nothing is clipped, and an affine grid wastes no code.

    scale = (max x - min x) / (qmax - qmin),    zero_point = round(qmin - min x / scale)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.scale import scale_from_range


class MinMaxStatistic(NamedTuple):
    low: Float[Array, "..."]
    high: Float[Array, "..."]


@pytree_dataclass
class MinMax:
    """Range from the smallest to the largest value."""

    def check(self, spec):
        """It fits every grid."""

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        x = x.astype(jnp.float32)
        return MinMaxStatistic(reduce_groups(jnp.min, x, groups), reduce_groups(jnp.max, x, groups))

    def combine(self, a, b):
        return MinMaxStatistic(jnp.minimum(a.low, b.low), jnp.maximum(a.high, b.high))

    def resolve(self, statistic, spec):
        return scale_from_range(statistic.low, statistic.high, spec)
