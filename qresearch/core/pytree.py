"""Frozen dataclasses that are pytrees: numbers are leaves, choices are static.

A field made with `leaf` may be swept, so it travels as an array argument of compiled programs. Every other
field is part of the tree's structure and is compared by value: two equal settings share one compilation.
"""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax
from jaxtyping import Array, Float, Int

# What a leaf may hold: a number that a person writes, or the scalar array that it becomes inside a program.
Number = float | int | Float[Array, ""]
WholeNumber = int | Int[Array, ""]

T = TypeVar("T")


def leaf(default: Any = dataclasses.MISSING) -> Any:
    """A field whose value is a number that may be swept (or a pytree of such numbers)."""
    return dataclasses.field(default=default, metadata={"leaf": True})


@dataclass_transform(frozen_default=True, field_specifiers=(leaf, dataclasses.field))
def pytree_dataclass(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and register it as a pytree.

    Rebuilding a tree does not call the constructor: JAX passes tracers and placeholders through trees, and
    the checks in `__post_init__` are meant for what a person writes.
    """
    frozen = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(frozen)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if f.metadata.get("leaf"))
    static = tuple(f.name for f in fields if not f.metadata.get("leaf"))

    def flatten_with_keys(node):
        children = tuple((jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in leaves)
        return children, tuple(getattr(node, name) for name in static)

    def unflatten(aux, children):
        node = object.__new__(frozen)
        for name, value in (*zip(static, aux, strict=True), *zip(leaves, children, strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(frozen, flatten_with_keys, unflatten)
    return frozen
