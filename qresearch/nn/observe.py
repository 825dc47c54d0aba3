"""The occupant that watches: it hands what passes through a slot to a `watch`, and sows the answer.

It changes nothing of what the layer computes. What it sows exists only inside `nnx.capture`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from qresearch.nn.fake_quant import FakeQuant, dimension_numbers
from qresearch.nn.packed import Packed
from qresearch.nn.slots import EMBEDDING, OPERATORS, contracted_axes, slots


class Seen(nnx.Variable):
    """What an `Observe` occupant sows."""


@runtime_checkable
class Watch(Protocol):
    """A pytree that turns one call of a layer into whatever is wanted of it."""

    def __call__(
        self,
        lhs: Float[Array, "..."],
        rhs: Float[Array, "..."],
        out: Float[Array, "..."],
        lhs_axes: Sequence[int],
        rhs_axes: Sequence[int],
    ) -> Any: ...


class Observe(nnx.Module):
    """Stands in a slot around the operator (or the FakeQuant or Packed) that was there."""

    def __init__(self, attribute: str, inner: FakeQuant | Packed | None, watch: Watch):
        self.attribute = attribute
        self.inner = nnx.data(inner)
        self.watch = nnx.data(watch)

    def __call__(self, lhs: Any, *args: Any, **kwargs: Any) -> Any:
        operator = OPERATORS[self.attribute] if self.inner is None else self.inner
        out = operator(lhs, *args, **kwargs)
        if self.attribute == EMBEDDING:  # a table alone: nothing comes in, and what is looked up is not known here
            nothing = jnp.zeros((0,))
            self.sow(Seen, "seen", self.watch(nothing, lhs[-1], nothing, (), (1,)))
        else:
            self._see(out, lhs, *args, **kwargs)
        return out

    def _see(self, out: Any, lhs: Any, rhs: Any, *args: Any, **kwargs: Any) -> None:
        axes = contracted_axes(self.attribute, lhs.ndim, dimension_numbers(self.attribute, args, kwargs))
        self.sow(Seen, "seen", self.watch(lhs, rhs, out, *axes))


def watch_layers(model: nnx.Module, watches: Mapping[str, Watch], x: Float[Array, "..."]) -> tuple[Any, dict[str, Any]]:
    """Run a copy of `model` on `x`; returns its output and what each watch made of its layer, by path.

    Raises ValueError for a layer that is called more than once or not at all: its statistics would be
    ambiguous or missing.
    """
    model = nnx.clone(model)
    places = slots(model)
    for path, watch in watches.items():
        slot = places[path]
        inner = slot.occupant if isinstance(slot.occupant, (FakeQuant, Packed)) else None
        slot.fill(Observe(slot.attribute, inner, watch))
    out, seen = nnx.capture(lambda m, inputs: m(inputs), Seen)(model, x)
    answers = {}
    for path in watches:
        node: Any = seen
        for part in (*filter(None, path.split(".")), places[path].attribute):
            node = node.get(int(part) if part.isdigit() else part, {})
        calls = node["seen"].get_value() if "seen" in node else ()
        if len(calls) != 1:
            raise ValueError(
                f"Layer {path!r} is called {len(calls)} times in one pass, not once; give each use a layer of its own, "
                "or keep this one float by a rule."
            )
        answers[path] = calls[0]
    return out, answers
