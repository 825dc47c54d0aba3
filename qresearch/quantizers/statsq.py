"""Statistical weight quantization: the scale is a fixed multiple of the mean magnitude of the weights.

    s = 2 mean|w|,    w_hat = s (round(n clip(w / s, -1, 1) - 1/2) + 1/2) / n,    n = 2^(b - 1)

Liu, Liu, Cheng, "Oscillation-free Quantization for Low-bit Vision Transformers", ICML 2023, arXiv:2302.02210,
equation 7. The 2^b levels are the mid-rise grid of scale s / n. The scale follows the weights and has no gradient, so
that it does not make them oscillate. In the authors' code (`StatsQuantizer` of nbasyl/OFQ) each weight gets its
gradient whole, also where it is clipped: that is estimator=straight_through here. There the mean runs over all
weights of one output; here over the elements that share a scale, the same for granularity=channel.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent, usable_scale
from qresearch.grids.mid_rise import MidRise


@pytree_dataclass
class StatsQ:
    """A scale from the mean magnitude of the weights, for mid-rise grids; the observer is not asked."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = False

    def check(self, spec):
        if not isinstance(spec.grid, MidRise):
            raise ValueError(f"grid={spec.grid.describe()}: the levels of StatsQ are those of format=mid_rise.")

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        magnitude = jnp.abs(jax.lax.stop_gradient(x).astype(jnp.float32))
        n = spec.grid.high + 0.5  # 2^(b - 1)
        scale = usable_scale(2 * reduce_groups(jnp.mean, magnitude, groups) / n)
        return fake_quantize(x, represent(scale, spec), None)
