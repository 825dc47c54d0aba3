"""Elastic binarization: the sign with a learned scale.

    x_hat = a sign(x),    dx = g where |x| <= a, else 0,    da = sum g sign(x) / sqrt(n),    a_0 = mean|x|

Liu, Oguz, Pappu, Xiao, Yih, Li, Krishnamoorthi, Mehdad, "BiT: Robustly Binarized Multi-distilled Transformer",
NeurIPS 2022, arXiv:2205.13016; for weights: Liu et al., "ParetoQ: Scaling Laws in Extremely Low-bit LLM
Quantization", 2025, arXiv:2502.02631. The gradient of x is that of estimator=clipped_straight_through. The scale
starts where the observer finds it: absmean is the start of ParetoQ, mean_magnitude that of BiT, twice as much.

Differs from the papers: n counts the elements sharing one scale, in one sample of an activation, where the authors'
code counts the whole tensor; a sign of zero is 1; BiT's learned shift of activations and its binarization of inputs
without negative values to 0 and a are not here (the latter is quantizer=lsq with one unsigned bit).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.quantizers.binary_grid import check_binary

SMALLEST_SCALE = 1e-5  # what training can bring a scale to, as in the authors' code


@pytree_dataclass
class ElasticBinarization:
    """Learned scale of a sign."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        check_binary(spec, "elastic_binarization")

    def init(self, statistic, spec):
        return {"scale": self.observer.resolve(statistic, spec)[0]}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        scale = qparams["scale"]
        still = jnp.maximum(jax.lax.stop_gradient(scale), SMALLEST_SCALE)
        damp = (x.size / (scale.size * samples)) ** -0.5
        # One, with the gradient of a product: the scale takes g sign(x), without the part of the clip.
        ratio = 1.0 + damp * (scale - jax.lax.stop_gradient(scale)) / still
        return fake_quantize(x, still, None) * broadcast_groups(ratio, x.shape).astype(x.dtype)
