"""Trained quantization thresholds: the logarithm of the clip level is trained, and the scale is a power of two.

    s = 2^ceil(log2 t) / 2^(b - 1)  signed,  / 2^b  unsigned,        x_hat = s * clip(round(x / s), n, p)
    dx_hat/dlog2 t = s ln 2 * (round(x / s) - x / s  inside,  n or p outside)

Jain, Gural, Wu, Dick, "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point Inference of Deep
Neural Networks", MLSys 2020, arXiv:1903.08066, equations 4 to 8. The ceil passes the gradient straight through.

Differs from the paper: a value up to half a step beyond an end of the grid, which rounds to that end, counts as
inside there (its test is on the rounded value) and as outside here, with the gradient of the clip. The start is
the observer's scale times 2^(b - 1) (2^b unsigned), so that the first scale is the observer's, rounded up to a
power of two; the paper starts weights at three standard deviations or the maximum and activations by a KL divergence.
It trains log2 t with Adam, which it finds needed for steps that do not depend on the size of the gradient (or with
gradients normed by their running variance, appendix B): use optim=adam, or a small quantizer_learning_rate.
It also freezes thresholds one by one as they settle; that is not here.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qresearch.core.octave import exponent_of, octave, power_of_two
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.grids.integer import Integer

LOWEST, HIGHEST = -100, 120  # exponents of a threshold: its scale stays a normal number at up to 16 bits


@pytree_dataclass
class TQT:
    """A learned threshold behind a scale that is a power of two, for integers without a zero point."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        if not isinstance(spec.grid, Integer) or not spec.grid.symmetric:
            raise ValueError(
                f"grid={spec.grid.describe()}: TQT's threshold is a power of two of integer steps; use format=int "
                "with grid.zero_point=none."
            )

    def init(self, statistic, spec):
        return {"log2_threshold": log2(self.observer.resolve(statistic, spec)[0] * (spec.grid.high + 1))}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        return fake_quantize(x, power_of_ceil(qparams["log2_threshold"]) / (spec.grid.high + 1), None)


def power_of_ceil(exponent: Float[Array, "..."]) -> Float[Array, "..."]:
    """2^ceil(exponent), exact; its derivative is itself times ln 2."""
    fixed = jax.lax.stop_gradient(exponent)
    power = power_of_two(jnp.clip(jnp.ceil(fixed), LOWEST, HIGHEST).astype(jnp.int32))
    return power * jnp.exp2(exponent - fixed)  # the factor is 1


def log2(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The binary logarithm, exact for powers of two: an error in the last place would be one of a whole octave."""
    power = octave(x)
    return exponent_of(power).astype(jnp.float32) + jnp.log2(x / power)
