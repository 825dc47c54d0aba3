"""How an input is rounded."""

from typing import Any, NamedTuple

from qresearch.core.spec import QuantSpec


class Scaling(NamedTuple):
    """One scale and one zero point for all of a tensor, in float32."""

    spec: QuantSpec
    scale: Any  # None where it is found at run time
    zero_point: Any  # None or 0 where the grid has none
