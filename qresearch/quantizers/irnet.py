"""Libra parameter binarization: weights are balanced and standardised, then take their sign at a power-of-two scale.

    w' = (w - mean w) / std w,    w_hat = 2^s sign(w'),    s = round(log2 mean|w'|)

About half of the weights of a channel are positive then, which is the most information that a sign can carry. The
gradient goes through mean and standard deviation; s has none. The derivative of the sign is the estimator's, meant is
estimator=ede, in units of w'.

Qin, Gong, Liu, Shen, Wei, Yu, Song, "Forward and Backward Information Retention for Accurate Binary Neural Networks"
(IR-Net), CVPR 2020, arXiv:1909.10788, equations 5 to 10. With granularity=channel the statistics are those of an
output channel, as there. The standard deviation is that of a sample (divided by n - 1), as in the authors' code;
groups without any are only balanced.

The result does not stand for w but for w': what follows must make up for the size of each channel. Batch norm does
(method.batch_norm=train); a layer without it starts far from the float network. The observer is not used.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups, reduce_groups, scale_shape
from qresearch.core.octave import power_of_two
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.quantizers.binary_grid import check_binary

SMALLEST_MEAN = 2.0**-60  # of a group without a spread


@pytree_dataclass
class IRNet:
    """Balanced, standardised signs at a scale of a power of two, taken from the tensor each time."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = False

    def check(self, spec):
        check_binary(spec, "irnet")

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        w = standardise(x.astype(jnp.float32), groups)
        size = reduce_groups(jnp.mean, jnp.abs(jax.lax.stop_gradient(w)), groups)
        exponent = jnp.round(jnp.log2(jnp.maximum(size, SMALLEST_MEAN)))
        scale = power_of_two(exponent.astype(jnp.int32))
        # In units of the scale the values are those of w', as the paper's tanh(t w') has it.
        return fake_quantize(w * broadcast_groups(scale, x.shape), scale, None).astype(x.dtype)


def standardise(x, groups):
    """Each group with a mean of 0 and a standard deviation of 1."""
    count = x.size // math.prod(groups)
    centred = x - broadcast_groups(reduce_groups(jnp.mean, x, groups), x.shape)
    variance = reduce_groups(jnp.sum, centred**2, groups) / max(count - 1, 1)
    std = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))  # where: the root has no slope at zero
    return centred / broadcast_groups(std, x.shape)
