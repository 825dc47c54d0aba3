"""ApproxSign: two parabolas in place of the sign, so that the gradient falls linearly with the distance from zero.

    dv = dq (2 - 2 |v|)    for |v| <= 1, else 0

Liu, Wu, Luo, Yang, Liu, Cheng, "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With Improved Representational
Capability and Advanced Training Algorithm", ECCV 2018, arXiv:1808.00278. The paper uses it for activations, whose v
is the activation itself; here v is in units of the scale.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import pytree_dataclass
from qresearch.estimators.assumptions import check_two_values


@pytree_dataclass
class PiecewisePolynomial:
    """The derivative of a piecewise parabola from -1 to 1, for grids of two values."""

    clips: ClassVar[bool] = True
    scheduled: ClassVar[bool] = False

    def check(self, spec):
        check_two_values(spec, "piecewise")

    def pull(self, g, rounded, progress):
        return g * (2.0 - 2.0 * jnp.abs(rounded.v / rounded.high))
