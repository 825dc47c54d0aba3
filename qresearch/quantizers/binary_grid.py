"""What the quantizers of binary networks ask of a grid."""

from qresearch.core.spec import QuantSpec
from qresearch.grids.binary import Binary


def check_binary(spec: QuantSpec, name: str) -> None:
    """Raise ValueError for another grid than -1 and 1 under the quantizer called `name`."""
    if not isinstance(spec.grid, Binary):
        raise ValueError(
            f"quantizer={name} with grid={spec.grid.describe()}: it is a rule for the values -1 and 1; use "
            "format=binary and bits=1, or another quantizer for this layer."
        )
