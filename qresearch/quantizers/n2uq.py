"""Nonuniform-to-uniform quantization: the thresholds of the input are learned, the levels of the output equal steps.

    v = sum_i clip((x - t_i) / a_i, 0, 1),    t_0 = start,  t_(i+1) = t_i + a_i,    i = 0 .. 2^b - 2
    x_hat = s round(v)

The input crosses from level i to i + 1 in the middle of its i-th piece, whose width a_i is learned. The generalised
straight-through estimator passes g through the piecewise linear v: dx = g s / a_i inside, 0 beyond the pieces, and
likewise to the widths and the start; ds = sum g round(v).

Liu, Cheng, Huang, Xing, Shen, "Nonuniform-to-Uniform Quantization: Towards Accurate Quantization via Generalized
Straight-Through Estimation", CVPR 2022, arXiv:2111.14826, for activations: unsigned integers with one scale a tensor,
of any input. The weights of the paper have quantizer=entropy_preserving.

Differs from the paper: the start is that of the observer (all widths and s its scale, start = 0) where the paper
takes a range of 2; the factor on the input in the authors' code is left out, since the widths and the start hold it;
no width falls below a thousandth of the mean width, where the code has 0.001. The gradients of the numbers are not
damped, as there, so give them a learning rate of their own, or optim=adam.

The number of thresholds is part of a compiled program and the bits are not, so there are thresholds for `most_bits`
and the first 2^b - 1 are used.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.spec import Granularity
from qresearch.grids.integer import Integer


@pytree_dataclass
class N2UQ:
    """Learned thresholds in front of equal steps, for up to `most_bits` bits.

    Raises ValueError for most_bits outside 1..8.
    """

    observer: Any = leaf()
    most_bits: int = 4
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __post_init__(self):
        if not 1 <= self.most_bits <= 8:
            raise ValueError(f"most_bits={self.most_bits} is outside 1..8.")

    def check(self, spec):
        grid = spec.grid
        if not (isinstance(grid, Integer) and grid.symmetric and grid.signed is False):
            raise ValueError(
                f"quantizer=n2uq with grid={grid.describe()}: its thresholds lead to the codes 0..2^b - 1; use "
                "format=int with grid.signed=false, and quantizer=entropy_preserving for weights."
            )
        if spec.granularity is not Granularity.tensor:
            raise ValueError(
                f"quantizer=n2uq with granularity={spec.granularity}: one list of thresholds serves the whole tensor; "
                "set granularity=tensor."
            )
        if isinstance(grid.bits, int) and grid.bits > self.most_bits:
            raise ValueError(f"quantizer=n2uq with bits={grid.bits}: raise its most_bits={self.most_bits} to that.")

    def init(self, statistic, spec):
        scale = self.observer.resolve(statistic, spec)[0]
        widths = jnp.broadcast_to(scale.reshape(1), (2**self.most_bits - 1,))
        return {"scale": scale, "widths": widths, "start": jnp.zeros((1,), jnp.float32)}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        scale = qparams["scale"]
        still = jax.lax.stop_gradient(scale)
        v = pieces(x.astype(jnp.float32), qparams["start"], qparams["widths"], spec.grid.high)
        ratio = 1.0 + (scale - still) / still  # one, with the gradient of a product
        return (fake_quantize(v * still, still, None) * ratio).astype(x.dtype)


def pieces(
    x: Float[Array, "..."], start: Float[Array, "1"], widths: Float[Array, " n"], used: Float[Array, ""]
) -> Float[Array, "..."]:
    """How many pieces lie below each `x`, counting the one that it is in by its share; the first `used` count."""
    least = 1e-3 * jax.lax.stop_gradient(jnp.mean(jnp.abs(widths)))
    widths = jnp.where(widths > least, widths, least)
    ends = jnp.cumsum(widths)
    edges = start + jnp.concatenate([jnp.zeros((1,), jnp.float32), ends[:-1]])
    last = used.astype(jnp.int32) - 1
    left_of = jnp.searchsorted(edges, jax.lax.stop_gradient(x), side="right", method="compare_all")
    index = jnp.clip(left_of - 1, 0, last)
    share = (x - edges[index]) / widths[index]
    share = jnp.where(share < 0, 0.0, jnp.where(share > 1, 1.0, share))
    return index.astype(jnp.float32) + share
