"""The largest magnitude sets the scale: nothing is clipped.

scale = max|x| / qmax
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.scale import scale_from_range


class AbsMaxStatistic(NamedTuple):
    largest: Float[Array, "..."]  # max|x| of each group


@pytree_dataclass
class AbsMax:
    """Symmetric range up to the largest magnitude."""

    def check(self, spec):
        """It fits every grid."""

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        return AbsMaxStatistic(reduce_groups(jnp.max, jnp.abs(x.astype(jnp.float32)), groups))

    def combine(self, a, b):
        return AbsMaxStatistic(jnp.maximum(a.largest, b.largest))

    def resolve(self, statistic, spec):
        return scale_from_range(-statistic.largest, statistic.largest, spec)
