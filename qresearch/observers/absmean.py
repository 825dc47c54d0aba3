"""The mean magnitude is the scale, for grids of -1, 1 and perhaps 0.

    scale = mean|x| + epsilon

Binary, with epsilon = 0, it is the scale of least squared error, alpha: Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net:
ImageNet Classification Using Binary Convolutional Neural Networks", ECCV 2016, arXiv:1603.05279, section 3.1
(granularity=channel). Ternary it is BitNet b1.58's, Ma et al., "The Era of 1-bit LLMs: All Large Language Models are in
1.58 Bits", 2024, arXiv:2402.17764, equations 1 to 3 (granularity=tensor). The paper gives no value for epsilon; 1e-5 is
that of the authors' published code, where it is a lower bound of the mean and not added to it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.core.scale import stored_scale

LARGEST_BITS = 2


class AbsMeanStatistic(NamedTuple):
    total: Float[Array, "..."]  # sum of |x| of each group
    count: Float[Array, ""]  # elements in a group


@pytree_dataclass
class AbsMean:
    """Scale equal to the mean magnitude, for symmetric grids of one or two bits."""

    epsilon: Number = leaf(1e-5)

    def __post_init__(self):
        if isinstance(self.epsilon, (int, float)) and not 0 <= self.epsilon < 1:
            raise ValueError(
                f"epsilon={self.epsilon} is outside [0, 1); it is added to the mean magnitude, for example 1e-5."
            )

    def check(self, spec):
        if not spec.grid.symmetric:
            raise ValueError(
                "grid.zero_point: the mean magnitude gives no zero point; use observer=minmax, percentile or mse."
            )
        if isinstance(spec.grid.bits, int) and spec.grid.bits > LARGEST_BITS:
            raise ValueError(
                f"grid={spec.grid.describe()}: the mean magnitude is the step of binary and ternary grids, and more "
                "levels want a smaller one; use observer=mean_magnitude, gaussian or mse."
            )

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        total = reduce_groups(jnp.sum, jnp.abs(x.astype(jnp.float32)), groups)
        return AbsMeanStatistic(total, jnp.float32(x.size / total.size))

    def combine(self, a, b):
        return AbsMeanStatistic(a.total + b.total, a.count + b.count)

    def resolve(self, statistic, spec):
        return stored_scale(statistic.total / statistic.count + self.epsilon, spec), None
