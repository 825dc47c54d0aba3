"""QuEST: weights and activations are rotated until they look Gaussian, and rounded on the best grid for a Gaussian.

    h = H x,    h_hat = Q(h) with the step of least squared error for N(0, rms(h)^2),    x_hat = H^T h_hat
    dx = H^T (M g_h),    g_h = H g,    M: the mask of the estimator, in the rotated domain

H is the normalised Hadamard matrix along the last contracted axis, in blocks of the largest power of two that divides
it and is at most `block`: 16 for an axis of 48. An axis of one has nothing to rotate. The scale follows the tensor
without a gradient.

Panferov, Chen, Tabesh, Castro, Nikdan, Alistarh, "QuEST: Stable Training of LLMs with 1-Bit Weights and Activations",
2025, arXiv:2502.05003, section 3. The paper's setting is format=mid_rise, granularity=channel, observer=gaussian,
estimator=trust; blocks of 128 as in the authors' code.

Differs from the paper: the inverse rotation is always made, so that the result stands for x itself; where the input
and the weight of a layer are rotated alike both may be left out, with the same product.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qresearch.core.pytree import leaf, pytree_dataclass


@pytree_dataclass
class QuEST:
    """The observer's scale of the rotated tensor, taken anew each time.

    Raises ValueError for a block that is not a power of two.
    """

    observer: Any = leaf()
    hadamard: bool = True
    block: int = 128  # the largest
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __post_init__(self):
        if self.block < 2 or self.block & (self.block - 1):
            raise ValueError(f"block={self.block} is not a power of two from 2 on, the sizes of Hadamard matrices.")

    def check(self, spec):
        if not spec.grid.symmetric:
            raise ValueError(
                f"quantizer=quest with grid={spec.grid.describe()}: what it rounds is centred on zero; use "
                "format=mid_rise, or another grid without a zero point."
            )

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        size = largest_block(x.shape, contract[-1], self.block) if self.hadamard else 1
        h = rotate(x, contract[-1], size)
        statistic = self.observer.measure(jax.lax.stop_gradient(h), contract=contract, spec=spec)
        return rotate(fake_quantize(h, *self.observer.resolve(statistic, spec)), contract[-1], size)


def largest_block(shape: tuple[int, ...], axis: int, most: int) -> int:
    """The largest power of two that divides the axis, at most `most`.

    Raises ValueError for an odd axis of more than one element.
    """
    size = shape[axis]
    if size > 1 and size % 2:
        raise ValueError(
            f"quantizer=quest: no power of two divides axis {axis} of an array of shape {tuple(shape)}, so it has no "
            "Hadamard matrix; set hadamard=false for this layer, or another quantizer."
        )
    return min(size & -size, most)


def rotate(x: Float[Array, "..."], axis: int, size: int) -> Float[Array, "..."]:
    """`x` times the normalised Hadamard matrix of `size` in each block of the axis; its own inverse."""
    if size == 1:
        return x
    matrix = jnp.asarray(hadamard_matrix(size), x.dtype)
    last = jnp.moveaxis(x, axis, -1)
    blocks = last.reshape(*last.shape[:-1], -1, size)
    rotated = jnp.matmul(blocks, matrix.reshape((1,) * (blocks.ndim - 2) + matrix.shape), precision="highest")
    return jnp.moveaxis(rotated.reshape(last.shape), -1, axis)


def hadamard_matrix(size: int) -> np.ndarray:
    """Sylvester's matrix of a power of two, symmetric and orthonormal."""
    matrix = np.ones((1, 1), np.float32)
    while matrix.shape[0] < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(np.float32(size))
