"""What each layer multiplies: shapes and contracted axes, found by tracing a model without computing anything."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from qresearch.core.pytree import pytree_dataclass
from qresearch.nn.observe import watch_layers
from qresearch.nn.slots import slots


@pytree_dataclass
class Geometry:
    """One call of a layer: out = operator(lhs, rhs), summed over `lhs_axes` and `rhs_axes`."""

    lhs_shape: tuple[int, ...]
    rhs_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    lhs_axes: tuple[int, ...]
    rhs_axes: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations: each output element sums over the contracted axes of the weight."""
        return math.prod(self.out_shape) * math.prod(self.rhs_shape[axis] for axis in self.rhs_axes)


@pytree_dataclass
class _Describe:
    """A watch that keeps shapes and axes."""

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        return Geometry(lhs.shape, rhs.shape, out.shape, tuple(lhs_axes), tuple(rhs_axes))


def geometry(model: nnx.Module, input_shape: Sequence[int]) -> dict[str, Geometry]:
    """The geometry of every layer with a slot, by path, for one float32 input of `input_shape`."""
    graphdef, state = nnx.split(model)

    def describe(state: Any, x: jax.Array):
        model = nnx.merge(graphdef, state)
        return watch_layers(model, dict.fromkeys(slots(model), _Describe()), x)[1]

    return jax.eval_shape(describe, state, jax.ShapeDtypeStruct(tuple(input_shape), "float32"))
