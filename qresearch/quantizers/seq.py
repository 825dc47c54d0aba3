"""Stretched elastic quantization: levels in the middle of equal parts of a learned range, for two bits and fewer.

    x_hat = a (round(clip(x / a, -c, c) n - shift) + shift) / n,    c = 0.99
    2^b levels:  n = 2^(b-1), shift = 1/2    (b = 2: -3/4 a, -1/4 a, 1/4 a, 3/4 a)
    3 levels:    n = 3/2,     shift = 0      (-2/3 a, 0, 2/3 a)
    da = sum g (x_hat - x) / a inside,  g x_hat / a outside of c a,    divided by sqrt(N q);    a_0 = max|x|

Liu, Zhao, Huang, Chen, Zhang, Zhao, Roy, Jin, Xiong, Shi, et al., "ParetoQ: Scaling Laws in Extremely Low-bit LLM
Quantization", 2025, arXiv:2502.02631; constants, gradients and q = 2^(b-1) - 1 (1 for three levels) as in the
authors' code.

The step a / n is the scale here, so a = scale (high + 1/2); the grid is mid_rise or ternary. It clips by itself,
since its range ends half a step beyond the outermost level: the gradients above are those of
estimator=straight_through, and with clipped_straight_through they end at the outermost level. The range starts at the
largest magnitude with observer=absmax; another observer gives its own.

Differs from the paper: N counts the elements sharing one scale, where the code counts the whole tensor, and the
learned number is the step, not the range, with the gradient divided by n^2 so that plain gradient descent moves a as
there.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.ternary import Ternary

CLIP = 0.99  # of the range
SMALLEST_SCALE = 1e-5  # what training can bring a scale to


@pytree_dataclass
class SEQ:
    """Learned range of a mid-rise or ternary grid."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def check(self, spec):
        if not isinstance(spec.grid, (MidRise, Ternary)):
            raise ValueError(
                f"quantizer=seq with grid={spec.grid.describe()}: its levels lie in the middle of equal parts of a "
                "range; use format=mid_rise or format=ternary, or quantizer=lsq for this grid."
            )
        if isinstance(spec.grid, MidRise) and isinstance(spec.grid.bits, int) and spec.grid.bits < 2:
            raise ValueError("quantizer=seq with one bit: use format=binary with quantizer=elastic_binarization.")

    def init(self, statistic, spec):
        grid = spec.grid
        return {"scale": self.observer.resolve(statistic, spec)[0] * grid.reach / (grid.high + 0.5)}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        parts, scale = spec.grid.high + 0.5, qparams["scale"]
        largest = jnp.maximum(jnp.floor(spec.grid.high), 1.0)
        damp = (x.size / (scale.size * samples) * largest) ** -0.5 / parts**2
        still = jax.lax.stop_gradient(scale)
        scale = jnp.maximum(still, SMALLEST_SCALE) + damp * (scale - still)
        bound = broadcast_groups(CLIP * parts * scale, x.shape).astype(x.dtype)
        clipped = jnp.where(x > bound, bound, jnp.where(x < -bound, -bound, x))
        return fake_quantize(clipped, scale, None)
