"""The operator slots of flax layers: where a layer keeps `lax.dot_general` or `lax.conv_general_dilated`.

Whatever stands in a slot is called in place of that function, so quantization enters a model without a second
model zoo: parameters keep their paths and float checkpoints load unchanged.

An `nnx.Embed` multiplies nothing; its slot is `promote_dtype`, the function through which its table passes. A row is
what one token takes, so the features count as contracted: granularity=channel gives a scale for each row.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

EMBEDDING = "promote_dtype"
OPERATORS = {
    "dot_general": jax.lax.dot_general,
    "conv_general_dilated": jax.lax.conv_general_dilated,
    EMBEDDING: promote_dtype,
}


class Slot(NamedTuple):
    """One layer's slot: the layer and the name of the attribute that holds the operator."""

    layer: Any
    attribute: str

    @property
    def is_embedding(self) -> bool:
        return self.attribute == EMBEDDING

    @property
    def parameter(self) -> str:
        """The name of the weight that passes through the slot."""
        return "embedding" if self.is_embedding else "kernel"

    @property
    def weight(self) -> nnx.Variable:
        return getattr(self.layer, self.parameter)

    @property
    def occupant(self) -> Any:
        return getattr(self.layer, self.attribute)

    def fill(self, occupant: Any) -> None:
        is_module = isinstance(occupant, nnx.Module)
        setattr(self.layer, self.attribute, nnx.data(occupant) if is_module else occupant)


def slots(model: nnx.Module) -> dict[str, Slot]:
    """Every slot of the model by the path of its layer ("layer1.0.conv2"), sorted by name with layer 10
    after layer 9.

    Raises ValueError for a layer whose `dot_general_cls` is set, since flax would pass over the slot in
    silence.
    """
    found, seen = {}, set()
    for path, module in jax.tree_util.tree_flatten_with_path(model, is_leaf=_has_slot)[0]:
        if not _has_slot(module) or id(module) in seen:  # a shared layer counts where it comes first
            continue
        seen.add(id(module))
        attribute = next(name for name in _operators(module) if hasattr(module, name))
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if getattr(module, f"{attribute}_cls", None) is not None:
            raise ValueError(
                f"Layer {name!r} sets {attribute}_cls, which flax prefers over {attribute}, so the layer would stay "
                f"float; build it with {attribute}= instead."
            )
        found[name] = Slot(module, attribute)
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _has_slot(node: Any) -> bool:
    return isinstance(node, nnx.Module) and any(hasattr(node, name) for name in _operators(node))


def _operators(module: nnx.Module) -> tuple[str, ...]:
    return (EMBEDDING,) if isinstance(module, nnx.Embed) else ("dot_general", "conv_general_dilated")


def contracted_axes(attribute: str, lhs_rank: int, dimension_numbers: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the input and of the weight that the operator sums over.

    A convolution sums its input over a window that moves, so all spatial axes of the input count as
    contracted: one scale serves a whole sample. A batch axis of `dot_general` stays apart on both sides.
    """
    if attribute == EMBEDDING:
        return (), (1,)
    if attribute == "dot_general":
        (lhs, rhs), _ = dimension_numbers
        return tuple(lhs), tuple(rhs)
    numbers = jax.lax.conv_dimension_numbers((1,) * lhs_rank, (1,) * lhs_rank, dimension_numbers)
    # lhs_spec is (batch, feature, spatial...), rhs_spec is (out feature, in feature, spatial...); the last
    # one named is cut into blocks.
    _, lhs_feature, *lhs_spatial = numbers.lhs_spec
    _, rhs_feature, *rhs_spatial = numbers.rhs_spec
    return (*lhs_spatial, lhs_feature), (*rhs_spatial, rhs_feature)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Layer 10 after layer 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")]
