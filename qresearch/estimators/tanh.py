"""A staircase of tanh steps in place of the derivative of rounding: large between two levels, small on a level.

    dv = dq k (1 - tanh^2(k u)) / (2 tanh(k / 2))    inside, 0 outside,    u = v - (the middle between its two levels)

u runs from -1/2 to 1/2 between two levels, over which the factor has the mean 1. Small k is the clipped
straight-through estimator, large k the derivative of rounding itself.

Gong, Liu, Jiang, Li, Hu, Lin, Yu, Yan, "Differentiable Soft Quantization: Bridging Full-Precision and Low-Bit Neural
Networks", ICCV 2019, arXiv:1908.05033, section 3; Yang et al., "Quantization Networks", CVPR 2019, arXiv:1911.09464,
use sigmoids, which are the same curve. Differs from the papers: k is a number to be swept; in the first it is learned
through alpha = 1 - tanh(k / 2), in the second it grows with the epochs and shapes the forward pass as well.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.estimators.assumptions import check_unit_steps


@pytree_dataclass
class Tanh:
    """Gradients weighted by a tanh staircase; `temperature` is k.

    Raises ValueError for a temperature that is not above zero.
    """

    temperature: Number = leaf(3.0)
    clips: ClassVar[bool] = True
    scheduled: ClassVar[bool] = False

    def __post_init__(self):
        if isinstance(self.temperature, (int, float)) and self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be above zero; 1 is nearly straight, 10 steep.")

    def check(self, spec):
        check_unit_steps(spec, "tanh")

    def pull(self, g, rounded, progress):
        above = rounded.v - rounded.low
        u = above - jnp.floor(above) - 0.5
        slope = 1.0 - jnp.tanh(self.temperature * u) ** 2
        factor = self.temperature * slope / (2.0 * jnp.tanh(jnp.asarray(self.temperature, jnp.float32) / 2.0))
        return g * factor
