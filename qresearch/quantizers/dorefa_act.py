"""DoReFa activations: equal steps over [0, 1], whatever the data.

x_hat = round((2^k - 1) clip(x, 0, 1)) / (2^k - 1)

Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth
Gradients", 2016, arXiv:1606.06160, equation 11, after an activation function that is bounded by [0, 1]: their clip,
which is that of the grid here. An input that the network has not scaled to [0, 1] is cut, so it takes training.
"""

from typing import Any, ClassVar

import jax.numpy as jnp

from qresearch.core.granularity import scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent
from qresearch.grids.integer import Integer


@pytree_dataclass
class DoReFaAct:
    """The fixed range 0..1, for unsigned integers; the observer is not asked."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = False

    def check(self, spec):
        if not isinstance(spec.grid, Integer) or not spec.grid.symmetric:
            raise ValueError(
                f"grid={spec.grid.describe()}: the levels of DoReFa's activations are those of format=int with "
                "grid.zero_point=none and grid.signed=false."
            )
        if spec.grid.signed:
            raise ValueError(
                f"grid.signed={spec.grid.signed}: DoReFa's activations lie in 0..1; set grid.signed=false, or use "
                "another quantizer for an input with values below zero."
            )

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        scale = jnp.full(groups, 1.0, jnp.float32) / spec.grid.high
        return fake_quantize(x, represent(scale, spec), None)
