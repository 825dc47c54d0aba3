"""Statistics-aware weight binning: the clip level is a fixed combination of the first two moments of the weights.

    alpha = c1 sqrt(mean(w^2)) + c2 mean|w|
    w_hat = alpha (2 round((2^b - 1) t) / (2^b - 1) - 1),    t = (clip(w / alpha, -1, 1) + 1) / 2

Choi, Chuang, Wang, Venkataramani, Srinivasan, Gopalakrishnan, "Bridging the Accuracy Gap for 2-bit Quantized Neural
Networks (QNN)", 2018, arXiv:1807.06964; the coefficients are those of the authors' code (`sawb_params` of
IBM's fms-model-optimizer), fitted to the best clip for six distributions at 2, 3, 4, 5 and 8 bits. alpha is the
outermost of 2^b levels with none at zero: the mid-rise grid. (That code has other coefficients for 2^b - 1 levels
with one at zero; they are not here.)

The scale follows the weights and has no gradient. As in that code, weights so alike in size that alpha comes out at
or below zero get max|w| in its place. Differs from the paper: the moments are those of the elements that share
a scale; granularity=tensor is the paper's.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import stored_scale
from qresearch.grids.mid_rise import LARGEST_BITS, MidRise

COEFFICIENTS = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80), 5: (17.74, -18.64), 8: (31.76, -35.04)}
TABLE = np.array([COEFFICIENTS.get(bits, (np.nan, np.nan)) for bits in range(LARGEST_BITS + 1)], np.float32)


@pytree_dataclass
class SAWB:
    """A clip level from the moments of the weights, for mid-rise grids; the observer is not asked.

    A width without coefficients that is swept as an array gives NaN.
    """

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = False

    def check(self, spec):
        if not isinstance(spec.grid, MidRise):
            raise ValueError(f"grid={spec.grid.describe()}: the levels of SAWB are those of format=mid_rise.")
        if isinstance(spec.grid.bits, int) and spec.grid.bits not in COEFFICIENTS:
            raise ValueError(
                f"bits={spec.grid.bits}: SAWB has coefficients for {sorted(COEFFICIENTS)} bits; use one of these, or "
                "quantizer=dynamic."
            )

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        alpha = clip_level(jax.lax.stop_gradient(x).astype(jnp.float32), groups, spec.grid.bits)
        return fake_quantize(x, stored_scale(alpha / spec.grid.high, spec), None)


def clip_level(w, groups, bits):
    """alpha of each group of elements that share a scale."""
    c1, c2 = jnp.asarray(TABLE)[bits]
    magnitude = jnp.abs(w)
    second = jnp.sqrt(reduce_groups(jnp.mean, w * w, groups))
    alpha = c1 * second + c2 * reduce_groups(jnp.mean, magnitude, groups)
    return jnp.where(alpha <= 0, reduce_groups(jnp.max, magnitude, groups), alpha)
