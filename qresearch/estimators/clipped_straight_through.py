"""Straight through inside the range, nothing outside: the common choice, and the gradient of a clip.

dv = dq where low <= v <= high, else 0

Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks", NeurIPS 2016, arXiv:1602.02830, equation 4
(for -1 and 1); Esser et al., ICLR 2020, arXiv:1902.08153, equations 3 and 5 (for integers).
"""

from typing import ClassVar

from qresearch.core.pytree import pytree_dataclass


@pytree_dataclass
class ClippedStraightThrough:
    """The gradient passes where the value was not clipped."""

    clips: ClassVar[bool] = True
    scheduled: ClassVar[bool] = False

    def check(self, spec):
        """It fits every grid."""

    def pull(self, g, rounded, progress):
        return g
