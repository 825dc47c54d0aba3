"""Differentiable soft quantization: rounding has the derivative of a chain of tanh pieces that learn their steepness.

    D = (u - l) / n,   i = floor((x - l) / D),   m = l + (i + 1/2) D             n: the number of steps of the grid
    phi = tanh(k (x - m)) / tanh(k D / 2),   tanh(k D / 2) = 1 - alpha,   so  k D = log(2 / alpha - 1)
    Q_S(x) = l + D (i + (phi + 1) / 2)   for l <= x <= u;   l below, u above
    Q(x)   = l + D (i + (sign(phi) + 1) / 2),  with the derivative of Q_S

Gong, Liu, Jiang, Li, Hu, Lin, Yu, Yan, "Differentiable Soft Quantization: Bridging Full-Precision and Low-Bit Neural
Networks", ICCV 2019, arXiv:1908.05033, sections 3.2 to 3.4. Trained are the clip levels l and u and alpha, the
distance of Q_S from the levels; all by autodiff of Q_S.

Differs from the paper: the level is found by rounding Q_S(x), which is the same but on a tie. l and u are free on a
grid with zero_point=float, which is the paper's; a symmetric grid ties l to u in the proportion of its ends. alpha is
kept in (0, 1/2) as half the logistic function of the number that is trained, where the paper trains it with a bound.
The clip levels start at the observer's range.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.granularity import broadcast_groups
from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.core.scale import represent

LARGEST = 0.5  # of alpha


@pytree_dataclass
class DSQ:
    """Learned clip levels and a learned softness, for equal steps; `alpha` is the softness to start with.

    Raises ValueError for an alpha outside (0, 0.5).
    """

    observer: Any = leaf()
    alpha: Number = leaf(0.2)
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def __post_init__(self):
        if isinstance(self.alpha, (int, float)) and not 0 < self.alpha < LARGEST:
            raise ValueError(f"alpha={self.alpha} is outside (0, {LARGEST}); small is near to rounding, 0.2 usual.")

    def check(self, spec):
        grid = spec.grid
        if not grid.uniform:
            raise ValueError(f"grid={grid.describe()}: DSQ needs equal steps; use format=int or mid_rise.")
        if not grid.symmetric and grid.zero_point != "float":
            raise ValueError(
                f"zero_point={grid.zero_point}: DSQ learns clip levels that are any numbers; use zero_point=float or "
                "none."
            )

    def init(self, statistic, spec):
        scale, zero_point = self.observer.resolve(statistic, spec)
        share = jnp.asarray(self.alpha, jnp.float32) / LARGEST
        qparams = {"softness": jnp.full_like(scale, 1.0) * jnp.log(share / (1 - share))}
        if zero_point is None:
            return qparams | {"upper": spec.grid.high * scale}
        lower, upper = ((end - zero_point) * scale for end in (spec.grid.low, spec.grid.high))
        return qparams | {"lower": lower, "upper": upper}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        grid, upper = spec.grid, qparams["upper"]
        lower = qparams.get("lower", upper * grid.low / grid.high)
        scale = represent((upper - lower) / (grid.high - grid.low), spec)
        if grid.symmetric:
            lower, zero_point = grid.low * scale, None
        else:
            zero_point = jax.lax.stop_gradient(grid.low - lower / scale)
        alpha = LARGEST * jax.nn.sigmoid(qparams["softness"])
        lower, step, alpha = (broadcast_groups(part, x.shape) for part in (lower, scale * grid.top_step, alpha))
        soft = soft_quantize(x.astype(jnp.float32), lower, step, alpha, (grid.high - grid.low) / grid.top_step)
        return fake_quantize(soft, jax.lax.stop_gradient(scale), zero_point).astype(x.dtype)


def soft_quantize(
    x: Float[Array, "..."],
    lower: Float[Array, "..."],
    step: Float[Array, "..."],
    alpha: Float[Array, "..."],
    steps: Float[Array, ""],
) -> Float[Array, "..."]:
    """Q_S of the formula above, from `lower` over `steps` steps."""
    upper = lower + steps * step
    below, above = x < lower, x > upper
    # Infinity must not reach the branch that is not chosen: its derivative would be NaN.
    position = (jnp.where(below | above, lower, x) - lower) / step
    piece = jax.lax.stop_gradient(jnp.clip(jnp.floor(position), 0.0, steps - 1))
    phi = jnp.tanh(jnp.log(2 / alpha - 1) * (position - piece - 0.5)) / (1 - alpha)
    return jnp.where(below, lower, jnp.where(above, upper, lower + step * (piece + 0.5 + 0.5 * phi)))
