"""Element-wise gradient scaling: a gradient that would push a value away from its level grows, and one that pulls it
back shrinks.

    dv = dq (1 + delta sign(dq) (v - q))    inside, 0 outside

Lee, Kim, Ham, "Network Quantization with Element-wise Gradient Scaling", CVPR 2021, arXiv:2104.00903, equation 5.
The paper's v runs from 0 to 1 over the whole grid, so our distance v - q, in steps, is divided by the width of the
grid. Differs from the paper: delta is a number to be swept; the paper also sets it from the Hessian's trace
(section 3.3) once an epoch.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass


@pytree_dataclass
class EWGS:
    """Gradients scaled by the distance of each value to its level.

    Raises ValueError for a negative delta.
    """

    delta: Number = leaf(1e-3)
    clips: ClassVar[bool] = True
    scheduled: ClassVar[bool] = False

    def __post_init__(self):
        if isinstance(self.delta, (int, float)) and self.delta < 0:
            raise ValueError(
                f"delta={self.delta} is negative; 0 is the clipped straight-through estimator, 0.001 usual."
            )

    def check(self, spec):
        """It fits every grid."""

    def pull(self, g, rounded, progress):
        distance = (rounded.v - rounded.q) / (rounded.high - rounded.low)
        return g * (1.0 + self.delta * jnp.sign(g) * distance)
