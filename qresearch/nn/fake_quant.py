"""The occupant that simulates: it rounds input and weight to their grids and calls the float operator.

It serves PTQ and QAT alike; only the quantizers inside differ. The float operator multiplies values that lie
on the grid.
"""

import math
from collections.abc import Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.qtensor import QTensor, quantize
from qresearch.core.spec import QuantSpec
from qresearch.nn.slots import OPERATORS, contracted_axes
from qresearch.quantizers.quantizer import QParams, Quantizer, ScaleAndZero


class QParam(nnx.Variable):
    """A number that a quantizer holds; learned ones are trained apart from the weights."""


class TensorQuantizer(nnx.Module):
    """A quantizer at work on one tensor of a layer: its spec, its rule and its qparams."""

    def __init__(self, spec: QuantSpec, quantizer: Quantizer, qparams: QParams, *, is_act: bool):
        self.is_act = is_act
        self.spec = nnx.data(spec)
        self.quantizer = nnx.data(quantizer)
        self.qparams = nnx.data({name: QParam(value) for name, value in qparams.items()})

    def scale(self, x: Float[Array, "..."], contract: Sequence[int]) -> ScaleAndZero:
        """Scale and zero point for `x`."""
        qparams = {name: param[...] for name, param in self.qparams.items()}
        samples = math.prod(size for axis, size in enumerate(x.shape) if axis not in contract) if self.is_act else 1
        return self.quantizer.scale(x, qparams, contract=contract, spec=self.spec, samples=samples)

    def quantize(self, x: Float[Array, "..."], contract: Sequence[int]) -> QTensor:
        """The codes of `x`, for inspection, packing and export."""
        return quantize(x, *self.scale(x, contract), self.spec)

    def __call__(self, x: Float[Array, "..."], contract: Sequence[int]) -> Float[Array, "..."]:
        return fake_quantize(x, *self.scale(x, contract), self.spec)


class FakeQuant(nnx.Module):
    """Stands in a slot; a side whose quantizer is None stays float."""

    def __init__(self, attribute: str, weight: TensorQuantizer | None, act: TensorQuantizer | None):
        self.attribute = attribute
        self.weight = nnx.data(weight)
        self.act = nnx.data(act)

    def __call__(self, lhs: Any, rhs: Any, *args: Any, **kwargs: Any) -> Any:
        lhs_axes, rhs_axes = contracted_axes(self.attribute, lhs.ndim, dimension_numbers(self.attribute, args, kwargs))
        if self.act is not None:
            lhs = self.act(lhs, lhs_axes)
        if self.weight is not None:
            rhs = self.weight(rhs, rhs_axes)
        return OPERATORS[self.attribute](lhs, rhs, *args, **kwargs)


def dimension_numbers(attribute: str, args: tuple, kwargs: dict) -> Any:
    """The `dimension_numbers` among the arguments that a flax layer gives its operator after input and weight."""
    if attribute == "dot_general":
        return args[0] if args else kwargs["dimension_numbers"]
    return kwargs["dimension_numbers"]
