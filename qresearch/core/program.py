"""The compiled programs of the project, and how many of them were compiled.

A function made with `program` is `jax.jit` of it, known by its name. JAX also compiles a one-operation
program for every new shape that is touched outside of them; those are not counted here.
"""

import collections
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

_names: set[str] = set()
_counts: collections.Counter[str] = collections.Counter()


def program(fn: Callable | None = None, **options: Any) -> Any:
    """`jax.jit` with `options`, counted under the name of the function; used as a decorator with or without options."""
    if fn is None:
        return lambda wrapped: program(wrapped, **options)
    _names.add(fn.__name__)
    return jax.jit(fn, **options)


class Static:
    """A static argument that is hashed and compared once: JAX does both in every call, and a network's structure is
    large.
    """

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any):
        self.value, self._hash = _first_equal(value), hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and (self.value is other.value or self.value == other.value)


@functools.lru_cache(maxsize=256)
def _first_equal(value: Any) -> Any:
    """The first one given of equal values."""
    return value


@contextmanager
def count_programs() -> Iterator[collections.Counter[str]]:
    """Within the block, the returned counter fills with the programs compiled (or loaded from the compilation
    cache), by name.
    """
    before, counted = _counts.copy(), collections.Counter()
    try:
        yield counted
    finally:
        counted.update(_counts - before)


def _listen(event: str, duration_secs: float, **details: str | int) -> None:
    name = str(details.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
    if event == "/jax/core/compile/backend_compile_duration" and name in _names:
        _counts[name] += 1


jax.monitoring.register_event_duration_secs_listener(_listen)
