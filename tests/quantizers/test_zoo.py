"""The laws of every quantizer with every observer; a new one of either joins by existing in its folder."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import broadcast_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.qtensor import dequantize, quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.levels import Levels
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.observers.percentile import Percentile

SPECS = {
    "tensor": QuantSpec(Integer(3)),
    "block": QuantSpec(Integer(3), Granularity.block, 4),
    "channel affine": QuantSpec(Integer(3, zero_point=ZeroPoint.integer, signed=False), Granularity.channel),
    "channel float zero point": QuantSpec(Integer(3, zero_point=ZeroPoint.float, signed=False), Granularity.channel),
    "unsigned": QuantSpec(Integer(3, signed=False)),
    "mid-rise": QuantSpec(MidRise(3), Granularity.channel),
    "binary": QuantSpec(Binary()),
    "levels": QuantSpec(Levels([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]), Granularity.channel),
}
EVERY_OBSERVER = ("tensor", "block", "channel affine")  # the specs that meet all observers; the others two of them
STE = ClippedStraightThrough()
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 2)) * [1, 0.01], jnp.float32)
COTANGENT = jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32)
LAYERS = jnp.stack([X, jnp.zeros_like(X)])  # two layers of one shape; in the second, every group is empty


@pytree_dataclass
class Known:
    """An observer that has seen everything: it gives what another found, without its cost, at half the scale."""

    statistic: Any = leaf()
    scale: Any = leaf()
    zero_point: Any = leaf()

    def check(self, spec):
        pass

    def measure(self, x, *, contract, spec):
        return self.statistic

    def combine(self, a, b):
        return self.statistic

    def resolve(self, statistic, spec):
        return 0.5 * self.scale, self.zero_point  # half: some values are clipped


class Found(NamedTuple):
    """What a quantizer makes of an array."""

    qparams: dict[str, Any]
    values: jax.Array  # what it rounded, at which scale and zero point, and what that became
    scale: jax.Array
    zero_point: jax.Array | None
    on_grid: jax.Array
    answer: jax.Array
    dx: jax.Array
    dqparams: dict[str, Any]


def quantized(quantizer, x, spec):
    qparams = quantizer.init(quantizer.observer.measure(x, contract=(0,), spec=spec), spec)

    def apply(x, qparams):
        seen = []

        def watched(values, scale, zero_point):
            on_grid = fake_quantize(values, scale, zero_point, spec, STE)
            seen.append((values, scale, zero_point, on_grid))
            return on_grid

        answer = quantizer.apply(x, qparams, watched, contract=(0,), spec=spec)
        assert len(seen) == 1
        return answer, seen[0]

    answer, pull, rounding = jax.vjp(apply, x, qparams, has_aux=True)
    return Found(qparams, *rounding, answer, *pull(COTANGENT))


@jax.jit
def observed(observer, layers, spec):
    """What the observer knows of each layer: its statistic, the scale and the zero point."""

    def one(x):
        statistic = observer.measure(x, contract=(0,), spec=spec)
        return statistic, *observer.resolve(statistic, spec)

    return jax.vmap(one)(layers)


def traced(spec):
    """The spec with its numbers as arrays."""
    return jax.tree.map(jnp.asarray, jax.tree.map(lambda leaf: np.int32(leaf) if isinstance(leaf, int) else leaf, spec))


def take(tree, number):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[number]), tree)


@functools.cache
def compute(quantizer_class, observer_class, name):
    """What is found in each layer, or the message of a combination that is refused."""
    spec, observer = SPECS[name], observer_class()
    try:
        observer.check(spec)
        quantizer_class(observer).check(spec)
    except ValueError as error:
        return str(error)
    known = observed(observer, LAYERS, spec)
    return [quantized(quantizer_class(Known(*take(known, i))), take(LAYERS, i), spec) for i in range(2)]


def by_any_observer(quantizer_class, name):
    """What is found with a plain observer, or with one that keeps a histogram where the quantizer needs it."""
    found = compute(quantizer_class, AbsMax, name)
    return (Percentile, compute(quantizer_class, Percentile, name)) if isinstance(found, str) else (AbsMax, found)


@pytest.mark.parametrize("name", EVERY_OBSERVER)
def test_laws_with_every_observer(quantizer_class, observer_class, name):
    laws(quantizer_class, observer_class, name, compute(quantizer_class, observer_class, name))


@pytest.mark.parametrize("name", [name for name in SPECS if name not in EVERY_OBSERVER])
def test_laws_on_every_kind_of_grid(quantizer_class, name):
    observer_class, outcome = by_any_observer(quantizer_class, name)
    laws(quantizer_class, observer_class, name, outcome)


def test_it_takes_a_grid(quantizer_class):
    """A quantizer that refuses everything would keep all laws."""
    assert any(not isinstance(by_any_observer(quantizer_class, name)[1], str) for name in SPECS)


def laws(quantizer_class, observer_class, name, outcome):
    spec = SPECS[name]
    if isinstance(outcome, str):  # a refusal names the choice that does not fit, and the way out
        assert re.search(r"\b(grid|zero_point|signed|bits|granularity|observer)[=:]", outcome)
        assert re.search(r"\b(use|set|raise)\b|format=", outcome)
        return
    found, empty = outcome
    values_lie_on_the_grid(spec, found)
    dequantize_of_quantize_is_fake_quantize(spec, found)
    rounding_again_changes_nothing(spec, found)
    what_is_stored_is_told(quantizer_class, spec, found)
    learned_numbers_alone_have_a_gradient(quantizer_class, found)
    if not quantizer_class.transforms:
        the_scale_is_all_that_it_decides(spec, found)
    assert np.all(empty.scale > 0)
    if spec.grid.round(jnp.zeros(()), Rounding.half_even, None) == 0:
        assert np.all(empty.answer == 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(outcome))
    it_works_around_its_observer(quantizer_class(observer_class()), spec, outcome)


def values_lie_on_the_grid(spec, found):
    scale = np.float64(broadcast_groups(found.scale, X.shape))
    zero_point = 0.0 if found.zero_point is None else np.float64(broadcast_groups(found.zero_point, X.shape))
    v = np.float64(found.on_grid) / scale + zero_point
    level = np.asarray(spec.grid.round(jnp.asarray(v, jnp.float32), Rounding.half_even, None))
    np.testing.assert_allclose(v, level, atol=1e-5)
    assert level.min() >= spec.grid.low and level.max() <= spec.grid.high
    assert len(np.unique(level)) > min(2, spec.grid.count - 1)


def dequantize_of_quantize_is_fake_quantize(spec, found):
    q = quantize(found.values, found.scale, found.zero_point, spec)
    np.testing.assert_array_equal(dequantize(q), found.on_grid)


def rounding_again_changes_nothing(spec, found):
    again = fake_quantize(found.on_grid, found.scale, found.zero_point, spec, STE)
    np.testing.assert_array_equal(again, found.on_grid)


def what_is_stored_is_told(quantizer_class, spec, found):
    groups = scale_shape(X.shape, contract=(0,), spec=spec)
    assert found.scale.shape == groups
    assert bool(found.qparams) is quantizer_class.stored
    if not quantizer_class.transforms:  # one that does may keep lists of levels or of thresholds
        assert all(value.shape == groups for value in found.qparams.values())


def learned_numbers_alone_have_a_gradient(quantizer_class, found):
    for value in found.dqparams.values():
        assert bool(np.any(np.asarray(value) != 0)) is quantizer_class.learned


def the_scale_is_all_that_it_decides(spec, found):
    """The array meets the grid as it is, and its gradient is that of the estimator."""
    np.testing.assert_array_equal(found.values, X)
    np.testing.assert_array_equal(found.answer, found.on_grid)
    level = np.asarray(spec.grid.decode(quantize(X, found.scale, found.zero_point, spec).codes))
    inside = (level > spec.grid.low) & (level < spec.grid.high)
    straight = np.asarray(found.dx) == np.asarray(COTANGENT)
    assert np.all(straight[inside]) and np.all((np.asarray(found.dx) == 0) | straight)


def it_works_around_its_observer(quantizer, spec, layers):
    """Traced with everything that may be: the width, and a stack of layers."""
    stacked = jax.vmap(quantized, in_axes=(None, 0, None))
    found = jax.eval_shape(stacked, quantizer, LAYERS, traced(spec))
    expected = jax.tree.map(lambda *leaves: jax.ShapeDtypeStruct((2, *leaves[0].shape), leaves[0].dtype), *layers)
    assert found == expected


@pytest.mark.parametrize("name", SPECS)
def test_jit_and_layers_change_nothing(quantizer_class, name):
    observer_class, alone = by_any_observer(quantizer_class, name)
    if isinstance(alone, str):
        return

    def one(known, x, spec):
        return quantized(quantizer_class(known), x, spec)

    known = Known(*observed(observer_class(), LAYERS, SPECS[name]))
    # Sums in another order; what transforms also has tanh, logarithms and the like.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if quantizer_class.transforms else {"rtol": 2e-6, "atol": 1e-7}
    together = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))(known, LAYERS, traced(SPECS[name]))
    for number in range(2):
        for ours, oracle in zip(jax.tree.leaves(together), jax.tree.leaves(alone[number]), strict=True):
            np.testing.assert_allclose(ours[number], oracle, **tolerance)
