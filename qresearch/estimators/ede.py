"""Error decay estimator: a tanh in place of the sign, flat at the start of the training and steep at its end.

    dv = dq k t (1 - tanh^2(t v)),    t = t_min (t_max / t_min)^progress,    k = max(1 / t, 1)

While t < 1 the slope at zero is 1 and all values are updated; later the curve comes near the sign itself.

Qin, Gong, Liu, Shen, Wei, Yu, Song, "Forward and Backward Information Retention for Accurate Binary Neural Networks"
(IR-Net), CVPR 2020, arXiv:1909.10788, equations 13 to 16; t from 10^-1 to 10^1. The authors' code for ResNet-20
starts at 10^-3. Differs from the paper: progress moves with every step, not once an epoch.
"""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.estimators.assumptions import check_two_values


@pytree_dataclass
class EDE:
    """The derivative of k tanh(t v) with t from `t_min` to `t_max` over the training, for grids of two values.

    Raises ValueError where they do not rise from above zero.
    """

    t_min: Number = leaf(0.1)
    t_max: Number = leaf(10.0)
    clips: ClassVar[bool] = False
    scheduled: ClassVar[bool] = True

    def __post_init__(self):
        plain = isinstance(self.t_min, (int, float)) and isinstance(self.t_max, (int, float))
        if plain and not 0 < self.t_min <= self.t_max:
            raise ValueError(
                f"t_min={self.t_min}, t_max={self.t_max}: need 0 < t_min <= t_max, for example 0.1 and 10."
            )

    def check(self, spec):
        check_two_values(spec, "ede")

    def pull(self, g, rounded, progress):
        first, last = jnp.asarray(self.t_min, jnp.float32), jnp.asarray(self.t_max, jnp.float32)
        t = first * jnp.power(last / first, progress)
        factor = jnp.maximum(1.0, t) * (1.0 - jnp.tanh(t * rounded.v / rounded.high) ** 2)  # k t = max(1, t)
        return jnp.where(factor == 0, 0.0, g * factor)
