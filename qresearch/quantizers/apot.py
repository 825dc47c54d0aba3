"""A learned clip on normalised weights, for additive powers of two and any other list of levels.

    w' = (w - mean w) / std w,    w_hat = a Q(clip(w' / a, -1, 1))
    da = sum g sign(w')  for |w'| > a,    g (Q(w' / a) - w' / a)  inside;    a_0 = 3 for weights, 8 for activations

Normalised weights have the same spread in all layers and all along the training, which steadies a. Mean and standard
deviation are those of the whole tensor, without a gradient. Activations are not normalised: normalise=false and
alpha=8.

Li, Dong, Wang, "Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural Networks",
ICLR 2020, arXiv:1909.13144 (reparameterized clipping function and weight normalization); numbers and statistics as in
the authors' CIFAR-10 code.

The result of normalised weights does not stand for w but for w', as in that code: what follows must make up for the
size of the tensor. Batch norm does (method.batch_norm=train); a layer without it starts far from the float network.
The learned number is the scale, a divided by the largest level of the grid; for levels that end at 1 it is a. Differs
from the paper: where the grid is not symmetric in its ends, values below the lowest level are clipped to that level.
The code does not clip the gradient of w (estimator=straight_through, which then gives da = g (Q - w' / a) beyond a
too); the paper's equation does (clipped_straight_through). The observer is not used.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.pytree import Number, leaf, pytree_dataclass


@pytree_dataclass
class APoT:
    """Learned clip, started at `alpha`.

    Raises ValueError for an alpha that is not above zero.
    """

    observer: Any = leaf()
    alpha: Number = leaf(3.0)
    normalise: bool = True
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = False

    def __post_init__(self):
        if isinstance(self.alpha, (int, float)) and self.alpha <= 0:
            raise ValueError(f"alpha={self.alpha} must be above zero: 3 for normalised weights, 8 for activations.")

    def check(self, spec):
        if not spec.grid.symmetric:
            raise ValueError(
                f"quantizer=apot with grid={spec.grid.describe()}: it learns a clip and no zero point; use a grid "
                "without one, or quantizer=lsq_plus."
            )

    def init(self, statistic, spec):
        scale = self.observer.resolve(statistic, spec)[0]  # for its shape
        return {"scale": jnp.broadcast_to(self.alpha / spec.grid.high, scale.shape).astype(jnp.float32)}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        values = normalised(x) if self.normalise else x
        return fake_quantize(values, qparams["scale"], None)


def normalised(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` with a mean of 0 and a standard deviation of 1; one of equal elements becomes 0."""
    still = jax.lax.stop_gradient(x)
    mean = jnp.mean(still)
    std = jnp.sqrt(jnp.sum((still - mean) ** 2) / max(x.size - 1, 1))
    return (x - mean) / jnp.where(std > 0, std, jnp.ones_like(std))
