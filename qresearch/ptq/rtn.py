"""Round to nearest: every weight goes to the closest code, each on its own. The baseline of layer algorithms.

codes = round(clip(w / scale + zero_point, qmin, qmax))
"""

from typing import ClassVar

from qresearch.core.pytree import pytree_dataclass
from qresearch.core.qtensor import quantize


@pytree_dataclass
class RTN:
    """Round to nearest."""

    to_nearest: ClassVar[bool] = True

    def solve(self, w, *, scale, zero_point, spec, key=None):
        return quantize(w, scale, zero_point, spec, key=key)
