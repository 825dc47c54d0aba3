"""Entropy-preserving weights: the mean magnitude sets a scale that fills all codes alike.

    w' = w / (gamma mean|w|),  gamma = (2^b - 1) / 2^(b-1),    w_hat = gamma mean|w| Q(clip(w', -1, 1))

Q has 2^b equal steps from -1 to 1, the mid-rise grid: with its step of 2 / (2^b - 1) the scale is mean|w| / 2^(b-2).
The scale follows the weights without a gradient.

Liu, Cheng, Huang, Xing, Shen, "Nonuniform-to-Uniform Quantization: Towards Accurate Quantization via Generalized
Straight-Through Estimation", CVPR 2022, arXiv:2111.14826, section 3.3; one scale for each output channel
(granularity=channel) and estimator=straight_through as in the authors' code. The observer is not used.

Differs from the paper: the weights keep their size, where the paper leaves it to batch norm; the gradient is dw = g,
where the authors' code passes g / (gamma mean|w|), the same but for the learning rate of each channel.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import usable_scale
from qresearch.grids.mid_rise import MidRise


@pytree_dataclass
class EntropyPreserving:
    """The scale mean|w| / 2^(b-2) on a mid-rise grid, taken from the tensor each time."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = False

    def check(self, spec):
        if not isinstance(spec.grid, MidRise):
            raise ValueError(
                f"quantizer=entropy_preserving with grid={spec.grid.describe()}: it fills the codes of equal steps "
                "without a zero; use format=mid_rise."
            )

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        magnitude = jnp.abs(jax.lax.stop_gradient(x).astype(jnp.float32))
        mean = reduce_groups(jnp.mean, magnitude, scale_shape(x.shape, contract=contract, spec=spec))
        return fake_quantize(x, usable_scale(4.0 * mean / (2.0 * spec.grid.high + 1.0)), None)  # 2 high + 1 = 2^b
