"""Learned step size with a learned offset: an asymmetric grid whose place is trained with the weights.

    x_hat = s * round(clip((x - beta) / s, n, p)) + beta                     n, p: the ends of the grid
    dx_hat/ds    = round((x - beta) / s) - (x - beta) / s    inside,  n or p outside
    dx_hat/dbeta = 0                                         inside,  1      outside

Bhalgat, Lee, Nagel, Blankevoort, Kwak, "LSQ+: Improving low-bit quantization through learnable offsets and better
initialization", CVPR Workshops 2020, arXiv:2004.09576, equations 1 to 8. The offset needs a grid with
zero_point=float: z = -beta / s turns our s * (Q(x / s + z) - z) into the paper's form without a remainder, and
autodiff through z gives the two derivatives above. On a grid without a zero point, as the paper has it for weights,
there is no beta.

Both gradients are damped by 1 / sqrt(n_features * p), the factor of LSQ (see `lsq.py`). Differs from the paper:
the start is what the observer finds. `mse` is near to the paper's for activations, which minimises the squared
error of the first batches over s and beta; its start for weights, the larger of |mean - 3 std| and
|mean + 3 std| over 2^(b - 1), is not here.
"""

from typing import Any, ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent
from qresearch.quantizers.learned_scale import check_uniform, scale_gradient


@pytree_dataclass
class LSQPlus:
    """Learned scale and, on a grid with a zero point that is any number, a learned offset."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        if spec.grid.symmetric:
            check_uniform(spec, "LSQ+")
        elif spec.grid.zero_point != "float":
            raise ValueError(
                f"zero_point={spec.grid.zero_point}: LSQ+ learns an offset that is any number; use zero_point=float, "
                "or grid.zero_point=none for a scale alone."
            )

    def init(self, statistic, spec):
        scale, zero_point = self.observer.resolve(statistic, spec)
        return {"scale": scale} if zero_point is None else {"scale": scale, "beta": -zero_point * scale}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        scale = qparams["scale"]
        damp = (x.size / (scale.size * samples) * jnp.maximum(spec.grid.high, 1.0)) ** -0.5
        scale = scale_gradient(scale, damp)
        if spec.grid.symmetric:
            return fake_quantize(x, scale, None)
        scale = represent(scale, spec)  # beta is divided by the scale that is used
        return fake_quantize(x, scale, -scale_gradient(qparams["beta"], damp) / scale)
