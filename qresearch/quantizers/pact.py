"""Parameterized clipping activation: the clip level of a ReLU is trained.

    y = clip(x, 0, alpha),    y_hat = s * round(y / s),    s = alpha / (2^b - 1)
    dy_hat/dalpha = 1 for x >= alpha, else 0               dy_hat/dx = 1 for 0 <= x < alpha, else 0

Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan, "PACT: Parameterized Clipping Activation for Quantized
Neural Networks", 2018, arXiv:1805.06085, equations 1 to 3. Only the clip gives alpha a gradient; that of the
step is left out, as there. An input with values below zero has a signed grid: y = clip(x, -alpha, alpha) and
-1 for x < -alpha, the symmetric two-sided PACT of the authors' group (`PACT2Sym` of IBM's fms-model-optimizer, which
adds up both sides with one sign; here the derivative keeps its own).

Differs from the paper: alpha starts at the largest level that the observer finds instead of at a fixed number, and
its L2 penalty (the weights' own factor) is not here, since the recipes of `training/optimizer.py` decay weights
alone.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent
from qresearch.grids.integer import Integer


@pytree_dataclass
class PACT:
    """A learned clip level, for integers without a zero point."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def check(self, spec):
        if not isinstance(spec.grid, Integer) or not spec.grid.symmetric:
            raise ValueError(
                f"grid={spec.grid.describe()}: PACT learns the largest value of equal steps from zero; use format=int "
                "with grid.zero_point=none."
            )

    def init(self, statistic, spec):
        return {"alpha": self.observer.resolve(statistic, spec)[0] * spec.grid.high}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        alpha, grid = qparams["alpha"], spec.grid
        fixed = jax.lax.stop_gradient(alpha) / grid.high
        scale = represent(fixed, spec)
        alpha = alpha + grid.high * (scale - fixed)  # the clip meets the largest level of a scale of any format
        clipped = clip_at(x.astype(jnp.float32), broadcast_groups(alpha, x.shape), signed=grid.low < 0)
        return fake_quantize(clipped, scale, None).astype(x.dtype)


def clip_at(x, alpha, *, signed):
    """`x` within 0..alpha, or -alpha..alpha; equation 1, whose derivative at alpha itself is that of alpha."""
    low = jnp.where(signed, -alpha, 0.0)
    return jnp.where(x >= alpha, alpha, jnp.where(x < low, low, x))
