"""A scale fixed by calibration: whatever the observer found, for good."""

from typing import Any, ClassVar

import jax

from qresearch.core.pytree import leaf, pytree_dataclass


@pytree_dataclass
class Static:
    """The scale of the observer's statistic; training does not move it."""

    observer: Any = leaf()
    learned: ClassVar[bool] = False
    stored: ClassVar[bool] = True
    transforms: ClassVar[bool] = False
    observes: ClassVar[bool] = True

    def check(self, spec):
        """It fits every grid."""

    def init(self, statistic, spec):
        scale, zero_point = self.observer.resolve(statistic, spec)
        return {"scale": scale} if zero_point is None else {"scale": scale, "zero_point": zero_point}

    def apply(self, x, qparams, fake_quantize, *, contract, spec, samples=1):
        return fake_quantize(x, *jax.lax.stop_gradient((qparams["scale"], qparams.get("zero_point"))))
