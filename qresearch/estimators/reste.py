"""Rectified straight-through: a power function in place of the sign, from the straight line to ever steeper roots.

    dv = dq / o |v|^(1/o - 1)    for m < |v| <= t
         dq m^(1/o - 1)          for |v| <= m: the slope of the chord from 0 to m, where the power grows without bound
         0                       for |v| > t
    o = 1 + (o_end - 1) (1 - cos(progress pi / 2))

Wu, Zheng, Liu, Zheng, "Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator for Binary
Neural Networks Training", ICCV 2023, arXiv:2308.06689; t = 1.5, m = 0.1, o_end = 3. The schedule of o is that of the
authors' code. Differs from the paper: progress moves with every step, not once an epoch, and v is in units of the
scale, where the authors apply the derivative to the weight itself.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.estimators.assumptions import check_two_values


@pytree_dataclass
class ReSTE:
    """The derivative of |v|^(1/o), cut off beyond `t` and held within `m`, for grids of two values.

    Raises ValueError where not 0 < m < t or o_end < 1.
    """

    o_end: Number = leaf(3.0)
    t: Number = leaf(1.5)
    m: Number = leaf(0.1)
    clips: ClassVar[bool] = False
    scheduled: ClassVar[bool] = True

    def __post_init__(self):
        if isinstance(self.o_end, (int, float)) and self.o_end < 1:
            raise ValueError(f"o_end={self.o_end} is below 1, the straight line; 3 is the paper's.")
        if isinstance(self.t, (int, float)) and isinstance(self.m, (int, float)) and not 0 < self.m < self.t:
            raise ValueError(f"t={self.t}, m={self.m}: need 0 < m < t, for example 1.5 and 0.1.")

    def check(self, spec):
        check_two_values(spec, "reste")

    def pull(self, g, rounded, progress):
        share = 1.0 - jnp.cos(jnp.asarray(progress, jnp.float32) * (jnp.pi / 2))
        o = 1.0 + (self.o_end - 1.0) * share
        size = jnp.abs(rounded.v / rounded.high)
        held = jnp.maximum(size, self.m)
        slope = jnp.power(held, 1.0 / o - 1.0) * jnp.where(size > self.m, 1.0 / o, 1.0)
        return jnp.where(size <= self.t, g * slope, 0.0)
