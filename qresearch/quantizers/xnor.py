"""XNOR-Net: the sign times the mean magnitude.

    x_hat = a sign(x),    a = mean|x|,    dx = g (1/n + a [|x| <= 1])

n is the number of elements sharing one scale: with granularity=channel those of one output channel for weights
(binary weight networks, equations 6 and 7), and those of one sample for an input. The gradient is printed in section
3.1; the derivative of |x| < 1 is the estimator's, seen by it in the units of x and not of the scale
(clipped_straight_through is the paper's).

Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks",
ECCV 2016, arXiv:1603.05279.

Differs from the paper: the scale of an input is one number for a sample, where K of section 3.2 is one for each place
of the window; the gradient of an input is that of a weight, where the paper passes the sign's alone; |x| = 1 counts
as inside, and a sign of zero is 1, so that an input without negative values (behind a ReLU) keeps no information. As
printed, the gradient is smaller than g by the scale: with plain gradient descent the authors' code multiplies it by
n, here the learning rate or optim=adam makes up for it. The observer is not used.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from qresearch.core.granularity import broadcast_groups, reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import SMALLEST
from qresearch.quantizers.binary_grid import check_binary


@pytree_dataclass
class XNOR:
    """The sign at the scale of the mean magnitude, taken from the tensor each time."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = False

    def check(self, spec):
        check_binary(spec, "xnor")

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        still, groups = jax.lax.stop_gradient(x), scale_shape(x.shape, contract=contract, spec=spec)
        scale = reduce_groups(jnp.mean, jnp.abs(still.astype(jnp.float32)), groups)
        scale = jnp.maximum(scale, SMALLEST)  # a group of zeros stays next to zero
        # In units of the scale the values are those of x, as the paper's |x| < 1 has it.
        rounded = fake_quantize(x * broadcast_groups(scale, x.shape).astype(x.dtype), scale, None)
        share = scale.size / x.size
        return rounded + share * (x - still)
