"""Trust estimation: the gradient passes where the value lies so near its level that rounding has changed it little.

    dv = dq where |q - v| <= T, else 0,    T = half a step

With T of half a step every value between two levels is trusted, and so are those up to half a step beyond the ends of
the grid. The paper writes T = alpha / (2^b - 1) in units of the root mean square, where alpha is the largest level:
that is half of its step 2 alpha / (2^b - 1).

Panferov, Chen, Tabesh, Castro, Nikdan, Alistarh, "QuEST: Stable Training of LLMs with 1-Bit Weights and Activations",
2025, arXiv:2502.05003, and the authors' code; for grids of equal steps.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.core.rounding import Rounding
from qresearch.estimators.assumptions import check_unit_steps


@pytree_dataclass
class Trust:
    """The gradient passes where the rounding error is at most `threshold` steps.

    Raises ValueError for a threshold that is not above zero.
    """

    threshold: Number = leaf(0.5)
    clips: ClassVar[bool] = False
    scheduled: ClassVar[bool] = False

    def __post_init__(self):
        if isinstance(self.threshold, (int, float)) and self.threshold <= 0:
            raise ValueError(f"threshold={self.threshold} trusts no value; 0.5, half a step, is the paper's.")

    def check(self, spec):
        check_unit_steps(spec, "trust")
        if spec.rounding not in (Rounding.half_even, Rounding.half_away):
            raise ValueError(
                f"estimator=trust with rounding={spec.rounding}: its threshold is meant for errors of up to half a "
                "step, those of rounding to the nearest level; use rounding=half_even."
            )

    def pull(self, g, rounded, progress):
        return jnp.where(jnp.abs(rounded.q - rounded.v) <= self.threshold, g, 0.0)
