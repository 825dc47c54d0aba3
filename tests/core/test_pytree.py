"""Choices are static, numbers are arguments: what of a spec reaches a program, and when it is traced again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range

STE = ClippedStraightThrough()


@pytree_dataclass
class Method:
    """A number that may be swept, a choice, and another method inside."""

    ratio: float = leaf(0.5)
    steps: int = 3
    inner: QuantSpec = leaf(QuantSpec(Integer(4)))

    def __post_init__(self):
        if isinstance(self.ratio, float) and self.ratio < 0:
            raise ValueError(f"ratio={self.ratio}")


def test_leaves_are_the_numbers():
    method = Method(0.25, 5, QuantSpec(Integer(6), Granularity.channel))
    assert jax.tree.leaves(method) == [0.25, 6]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(method)]
    assert paths == [".ratio", ".inner.grid.bits"]
    doubled = jax.tree.map(lambda number: 2 * number, method)
    assert doubled == Method(0.5, 5, QuantSpec(Integer(12), Granularity.channel))


def test_the_structure_is_the_choices():
    structure = jax.tree.structure(Method())
    assert structure == jax.tree.structure(Method(0.75, 3, QuantSpec(Integer(2))))
    assert hash(structure) == hash(jax.tree.structure(Method(0.75, 3, QuantSpec(Integer(2)))))
    for other in (
        Method(steps=4),
        Method(inner=QuantSpec(Integer(4), Granularity.channel)),
        Method(inner=QuantSpec(Integer(4, signed=False))),
    ):
        assert structure != jax.tree.structure(other)


def test_trees_hold_what_a_person_could_not_write():
    structure = jax.tree.structure(Method())
    assert structure.unflatten([-1.0, 99]).inner.grid.bits == 99  # JAX passes placeholders through trees
    with pytest.raises(ValueError, match=r"ratio=-1\.0"):
        Method(-1.0)


def test_instances_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        QuantSpec(Integer(4)).grid = Integer(8)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Integer(4).bits = 8  # type: ignore[misc]


def test_bit_widths_share_one_trace_and_choices_do_not():
    traces = []

    @jax.jit
    def rounded(x, spec):
        traces.append(spec)
        return fake_quantize(x, jnp.full((1,), 0.25), None, spec, STE)

    x = jnp.linspace(-4.0, 4.0, 31)
    for bits in (2, 3, 8):
        expected = np.clip(np.round(np.asarray(x) / 0.25), 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) * 0.25
        np.testing.assert_array_equal(rounded(x, QuantSpec(Integer(bits, range=Range.narrow))), expected)
    assert len(traces) == 1
    rounded(x, QuantSpec(Integer(8, range=Range.full)))
    assert len(traces) == 2


def test_bit_widths_stack():
    x, scale = jnp.linspace(-4.0, 4.0, 31), jnp.full((1,), 0.25)
    specs = [QuantSpec(Integer(bits)) for bits in (2, 3, 8)]
    stacked = jax.tree.map(lambda *bits: jnp.array(bits, jnp.int32), *specs)
    together = jax.vmap(lambda spec: fake_quantize(x, scale, None, spec, STE))(stacked)
    for row, spec in zip(together, specs, strict=True):
        np.testing.assert_array_equal(row, fake_quantize(x, scale, None, spec, STE))
