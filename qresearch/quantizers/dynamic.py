"""A scale taken from the tensor itself each time: no calibration, a reduction over the data at run time.

On weights in training this is the plain straight-through quantizer: the scale follows the weights, without a
gradient.
"""

from typing import Any, ClassVar

import jax

from qresearch.core.pytree import leaf, pytree_dataclass


@pytree_dataclass
class Dynamic:
    """The scale of the observer's statistic of the tensor at hand."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = False
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        """It fits every grid."""

    def init(self, statistic, spec):
        return {}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        statistic = self.observer.measure(jax.lax.stop_gradient(x), contract=contract, spec=spec)
        return fake_quantize(x, *self.observer.resolve(statistic, spec))
