"""SignSwish: a smooth curve through the sign whose derivative is a peak with two shallow negative valleys.

    dv = dq b (2 - b v tanh(b v / 2)) / (1 + cosh(b v)),    b = beta

Darabi, Belbahri, Courbariaux, Nia, "Regularized Binary Network Training", 2018, arXiv:1812.11800 (first called "BNN+:
Improved Binary Network Training"). Differs from the paper: beta is a number to be swept, where the paper also learns
it; its regulariser on the weights is not part of an estimator.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.estimators.assumptions import check_two_values

FAR = 60.0  # |b v| from which the derivative is below 1e-23 and counts as zero


@pytree_dataclass
class SwishSign:
    """The derivative of SignSwish, for grids of two values.

    Raises ValueError for a beta that is not above zero.
    """

    beta: Number = leaf(5.0)
    clips: ClassVar[bool] = False
    scheduled: ClassVar[bool] = False

    def __post_init__(self):
        if isinstance(self.beta, (int, float)) and self.beta <= 0:
            raise ValueError(f"beta={self.beta} must be above zero; 5 is the paper's.")

    def check(self, spec):
        check_two_values(spec, "swish")

    def pull(self, g, rounded, progress):
        z = self.beta * rounded.v / rounded.high
        # 1 / (1 + cosh z) without an overflow.
        bell = 2.0 * jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)
        slope = self.beta * (2.0 - z * jnp.tanh(z / 2.0)) * bell
        return jnp.where(jnp.abs(z) < FAR, g * slope, 0.0)
