"""The occupant that simulates: it rounds input and weight to their grids and calls the float operator.

It serves PTQ and QAT alike; only the quantizers inside differ. The float operator multiplies values that lie
on the grid. A third quantizer may round the gradient of the output on its way back, so that the two products of
the backward pass see values on a grid too.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from qresearch.core.estimator import Estimator
from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.qtensor import QTensor, quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.nn.slots import EMBEDDING, OPERATORS, contracted_axes
from qresearch.quantizers.quantizer import QParams, Quantizer


class QParam(nnx.Variable):
    """A number that a quantizer holds; learned ones are trained apart from the weights."""


class Clock(nnx.Variable):
    """A number that training sets before each step; see `clock.py`."""


class TensorQuantizer(nnx.Module):
    """A quantizer at work on one tensor of a layer: its spec, its rule, its estimator and its qparams.

    `key` is the random key of stochastic rounding until training sets another.
    """

    def __init__(
        self,
        spec: QuantSpec,
        quantizer: Quantizer,
        estimator: Estimator,
        qparams: QParams,
        *,
        is_act: bool,
        key: jax.Array | None = None,
    ):
        self.is_act = is_act
        self.spec = nnx.data(spec)
        self.quantizer = nnx.data(quantizer)
        self.estimator = nnx.data(estimator)
        self.qparams = nnx.data({name: QParam(value) for name, value in qparams.items()})
        self.progress = nnx.data(Clock(jnp.zeros(())) if estimator.scheduled else None)
        draws = spec.rounding is Rounding.stochastic
        if draws and key is None:
            raise ValueError("rounding=stochastic needs a random key; pass key=jax.random.key(...).")
        self.key = nnx.data(Clock(key) if draws else None)

    def __call__(self, x: Float[Array, "..."], contract: Sequence[int]) -> Float[Array, "..."]:
        clock = {"progress": 1.0 if self.progress is None else self.progress[...], "key": self._key()}
        rounding = functools.partial(fake_quantize, spec=self.spec, estimator=self.estimator, **clock)
        return self._apply(x, contract, rounding)

    def rounding(self, x: Float[Array, "..."], contract: Sequence[int]) -> tuple[Any, Any, Any]:
        """(values, scale, zero point) that `x` leads to at the moment of rounding: the values are those of `x`, but for
        quantizers that transform.
        """
        seen: list[tuple[Any, Any, Any]] = []

        def keep(values, scale, zero_point):
            seen.append((values, scale, zero_point))
            return values

        self._apply(x, contract, keep)
        assert len(seen) == 1, f"{type(self.quantizer).__name__} rounds {len(seen)} times, not once"
        return seen[0]

    def quantize(self, x: Float[Array, "..."], contract: Sequence[int]) -> QTensor:
        """The codes of `x`, for inspection, packing and export."""
        return quantize(*self.rounding(x, contract), self.spec, key=self._key())

    def ends_with_rounding(self, shape: Sequence[int], contract: Sequence[int]) -> bool:
        """Whether it returns what it has rounded as it is, so that its codes tell all."""

        def values(x, rounded):
            return self._apply(x, contract, lambda *_: rounded)

        tensor = jax.ShapeDtypeStruct(tuple(shape), "float32")
        jaxpr = jax.make_jaxpr(values)(tensor, tensor).jaxpr
        return jaxpr.outvars[0] is jaxpr.invars[1]

    def check_ends_with_rounding(self, shape: Sequence[int], contract: Sequence[int], head: str) -> None:
        """Raise ValueError where its codes do not tell all; `head` says of what, and what it therefore cannot be."""
        if not self.ends_with_rounding(shape, contract):
            raise ValueError(
                f"{head}: {type(self.quantizer).__name__} changes values after it has rounded them. Use another "
                "quantizer, or keep the layer float by a rule."
            )

    def _apply(self, x: Any, contract: Sequence[int], rounding: Callable) -> Any:
        qparams = {name: param[...] for name, param in self.qparams.items()}
        samples = math.prod(size for axis, size in enumerate(x.shape) if axis not in contract) if self.is_act else 1
        return self.quantizer.apply(x, qparams, rounding, contract=contract, spec=self.spec, samples=samples)

    def _key(self) -> Any:
        return None if self.key is None else self.key[...]


class FakeQuant(nnx.Module):
    """Stands in a slot; a side whose quantizer is None stays float."""

    def __init__(
        self,
        attribute: str,
        weight: TensorQuantizer | None,
        act: TensorQuantizer | None,
        grad: TensorQuantizer | None = None,
    ):
        self.attribute = attribute
        self.weight = nnx.data(weight)
        self.act = nnx.data(act)
        self.grad = nnx.data(grad)

    def __call__(self, lhs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.attribute == EMBEDDING:
            *query, table = OPERATORS[EMBEDDING](lhs, *args, **kwargs)
            return *query, table if self.weight is None else self.weight(table, (1,))
        return self._multiply(lhs, *args, **kwargs)

    def _multiply(self, lhs: Any, rhs: Any, *args: Any, **kwargs: Any) -> Any:
        lhs_axes, rhs_axes = contracted_axes(self.attribute, lhs.ndim, dimension_numbers(self.attribute, args, kwargs))
        if self.act is not None:
            lhs = self.act(lhs, lhs_axes)
        if self.weight is not None:
            rhs = self.weight(rhs, rhs_axes)
        out = OPERATORS[self.attribute](lhs, rhs, *args, **kwargs)
        return out if self.grad is None else round_gradient(out, self.grad)


def round_gradient(x: Float[Array, "..."], quantizer: TensorQuantizer) -> Float[Array, "..."]:
    """`x` itself; its gradient is quantized on the way back. All axes but the first, the batch, share a scale
    where the granularity is finer than the tensor.
    """
    graphdef, state = nnx.split(quantizer)
    return _round_gradient(graphdef, x, state)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _round_gradient(graphdef, x, state):
    return x


def _keep_state(graphdef, x, state):
    return x, state


def _quantize_gradient(graphdef, state, g):
    return nnx.merge(graphdef, state)(g, tuple(range(1, g.ndim))), None


_round_gradient.defvjp(_keep_state, _quantize_gradient)


def dimension_numbers(attribute: str, args: tuple, kwargs: dict) -> Any:
    """The `dimension_numbers` among the arguments that a flax layer gives its operator after input and weight."""
    if attribute == "dot_general":
        return args[0] if args else kwargs["dimension_numbers"]
    return kwargs["dimension_numbers"]
