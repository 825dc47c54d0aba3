"""Learned step size: the scale is trained with the weights.

    x_hat = s * round(clip(x / s, qmin, qmax)),    ds scaled by 1 / sqrt(n * qmax),    s_0 = 2 mean|x| / sqrt(qmax)

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned Step Size Quantization", ICLR 2020, arXiv:1902.08153. n
is the number of weights, or of the features of one sample of the input, that share one scale: for one scale a
tensor it is the paper's. (Counting the whole batch, as some implementations do, slows the scales of
activations by the root of the batch size.) Differs from the paper: the starting scale is that of the observer
(`mean_magnitude` is the paper's), gathered over the calibration data instead of the first batch.
"""

from typing import Any, ClassVar

from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.quantizers.learned_scale import check_uniform, scale_gradient


@pytree_dataclass
class LSQ:
    """Learned scale with a damped gradient, for symmetric grids of equal steps."""

    observer: Any = leaf()
    learned: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        check_uniform(spec, "LSQ")

    def init(self, statistic, spec):
        return {"scale": self.observer.resolve(statistic, spec)[0]}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        scale = qparams["scale"]
        damp = (x.size / (scale.size * samples) * spec.grid.high) ** -0.5
        return fake_quantize(x, scale_gradient(scale, damp), None)
