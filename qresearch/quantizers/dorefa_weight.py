"""DoReFa weights: squeezed into [-1, 1] by tanh, then rounded to equal steps over it.

    t = tanh(w) / max|tanh(w)|,    w_hat = 2 round((2^k - 1) (t + 1) / 2) / (2^k - 1) - 1          k > 1 bits
    w_hat = mean|w| * sign(w)                                                                      1 bit

Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth
Gradients", 2016, arXiv:1606.06160, equations 7 to 9. The 2^k levels are the mid-rise grid of scale 2 / (2^k - 1), or
the binary grid of scale mean|w|. The gradient goes through tanh and the maximum, as in the authors' code, and
straight through the rounding. The mean has none; for one bit the authors pass the gradient of every weight, which is
estimator=straight_through here. Differs from the paper: maximum and mean are those of the elements that share a
scale (granularity=tensor is the paper's), and sign(0) is 1, where the authors' code has 0.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups, reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent, stored_scale, usable_scale
from qresearch.grids.binary import Binary
from qresearch.grids.mid_rise import MidRise


@pytree_dataclass
class DoReFaWeight:
    """Weights through tanh, for mid-rise grids; the sign times the mean magnitude, for the binary grid."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = False

    def check(self, spec):
        if isinstance(spec.grid, Binary):
            return
        if not isinstance(spec.grid, MidRise):
            raise ValueError(
                f"grid={spec.grid.describe()}: the levels of DoReFa's weights are those of format=mid_rise, "
                "and of format=binary for one bit."
            )
        if isinstance(spec.grid.bits, int) and spec.grid.bits == 1:
            raise ValueError("bits=1: DoReFa has a rule of its own for one bit; use format=binary.")

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        w = x.astype(jnp.float32)
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        if isinstance(spec.grid, Binary):
            mean = reduce_groups(jnp.mean, jnp.abs(jax.lax.stop_gradient(w)), groups)
            return fake_quantize(x, stored_scale(mean, spec), None)
        squeezed = jnp.tanh(w)
        largest = usable_scale(reduce_groups(jnp.max, jnp.abs(squeezed), groups))
        squeezed = squeezed / broadcast_groups(largest, x.shape)
        scale = jnp.full(groups, 1.0, jnp.float32) / spec.grid.high
        return fake_quantize(squeezed, represent(scale, spec), None).astype(x.dtype)
