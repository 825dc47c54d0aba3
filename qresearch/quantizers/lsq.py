"""Learned step size: the scale is trained with the weights.

    x_hat = s * round(clip(x / s, qmin, qmax)),    ds scaled by 1 / sqrt(n * qmax),    s_0 = 2 mean|x| / sqrt(qmax)

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization", ICLR 2020, arXiv:1902.08153. n
is the number of weights, or of the features of one sample of the input, that share one scale: for one scale a
tensor it is the paper's. (Counting the whole batch, as some implementations do, slows the scales of
activations by the root of the batch size.) Differs from the paper: the starting scale is that of the observer
(`mean_magnitude` is the paper's), gathered over the calibration data instead of the first batch.
"""

from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float

from qresearch.core.pytree import leaf, pytree_dataclass


@pytree_dataclass
class LSQ:
    """Learned scale with a damped gradient, for symmetric grids."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True

    def init(self, statistic, spec):
        if not spec.symmetric:
            raise ValueError("symmetric=false: LSQ learns a scale and no zero point; set symmetric=true or use static.")
        return {"scale": self.observer.resolve(statistic, spec)[0]}

    def scale(self, x, qparams, *, contract, spec, samples=1):
        scale = qparams["scale"]
        damp = (x.size / (scale.size * samples) * spec.qmax) ** -0.5
        return scale_gradient(scale, damp), None


def scale_gradient(x: Float[Array, "..."], factor: Float[Array, ""]) -> Float[Array, "..."]:
    """`x` itself, with its gradient multiplied by `factor` (the paper's Appendix A)."""
    damped = x * factor
    return jax.lax.stop_gradient(x - damped) + damped
