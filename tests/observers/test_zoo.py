"""The laws of every observer; a new one joins by existing in qresearch/observers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.granularity import scale_shape
from qresearch.core.program import count_programs, program
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.minifloat import MiniFloat, Special

CHANNEL = QuantSpec(Integer(4), Granularity.channel)
SPECS = [
    QuantSpec(Integer(4, zero_point=ZeroPoint.integer, signed=False)),
    QuantSpec(Integer(2), Granularity.block, 4),
    QuantSpec(MiniFloat(2, 1, Special.finite)),
    CHANNEL,
]
# Multiples of 1/8 whose sums float32 holds exactly: no order of adding them may change a statistic.
EXACT = np.random.default_rng(0).integers(-400, 401, size=(12, 2)).astype(np.float32) / 8
ULP = 3e-7  # compiled with another shape, a division by one number may become a product with its inverse


def specs(observer):
    """The specs of SPECS that the observer takes; what it refuses, it refuses with the way out."""
    for spec in SPECS:
        try:
            observer.check(spec)
        except ValueError as error:
            reason = "grid.zero_point" if not spec.grid.symmetric else f"grid={spec.grid.describe()}"
            assert str(error).startswith(reason) and "; use " in str(error)
        else:
            yield spec


def measure_now(observer, x, spec):
    return observer.measure(x, contract=(0,), spec=spec)


def resolve_now(observer, statistic, spec):
    return observer.resolve(statistic, spec)


measure, resolve = jax.jit(measure_now), program(resolve_now)
combine = jax.jit(lambda observer, a, b: observer.combine(a, b))


@pytest.fixture
def observer(observer_class):
    return observer_class()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("granularity", [Granularity.tensor, Granularity.channel])
def test_parts_combine_to_the_whole_in_any_order_and_grouping(observer, granularity):
    spec = QuantSpec(Integer(4), granularity)
    a, b, c = (measure(observer, part, spec) for part in np.split(EXACT, 3))
    whole = measure(observer, EXACT, spec)
    assert_same(combine(observer, a, b), combine(observer, b, a))
    # Unequal parts, eight rows and four, weigh by their size.
    assert_same(combine(observer, combine(observer, a, b), c), whole)
    assert_same(combine(observer, a, combine(observer, b, c)), whole)
    shuffled = EXACT[np.random.default_rng(1).permutation(len(EXACT))]
    assert_same(measure(observer, shuffled, spec), whole)


def test_scales_have_their_shape_and_are_positive(observer):
    taken = list(specs(observer))
    assert any(spec.grid.symmetric for spec in taken)
    for spec in taken:
        shapes = scale_shape((12, 2), contract=(0,), spec=spec)
        for x in (EXACT, np.abs(EXACT), EXACT / 1024, np.zeros_like(EXACT)):
            scale, zero_point = resolve(observer, measure(observer, x, spec), spec)
            assert scale.shape == shapes and scale.dtype == jnp.float32
            assert np.all(np.isfinite(scale)) and np.all(np.asarray(scale) > 0)
            assert (zero_point is None) == spec.grid.symmetric
            if zero_point is not None:
                codes = np.asarray(zero_point)
                assert codes.shape == shapes and np.all(codes == np.round(codes))
                assert codes.min() >= spec.grid.low and codes.max() <= spec.grid.high


@pytest.mark.parametrize("value", [0.0, -1.5, 2.5])
def test_groups_of_a_single_element(observer, value):
    scale, _ = resolve(observer, measure(observer, np.full((1, 2), value, np.float32), CHANNEL), CHANNEL)
    scale = np.asarray(scale)
    assert scale.shape == (1, 2) and np.all(scale > 0) and scale[0, 0] == scale[0, 1]


def test_groups_do_not_mix(observer):
    """A channel's scale does not change with what is in the other."""
    scales = []
    for factor in (1, 16):
        x = EXACT * np.array([1, factor], np.float32)
        scales.append(np.asarray(resolve(observer, measure(observer, x, CHANNEL), CHANNEL)[0]))
    assert scales[0][0, 0] == scales[1][0, 0] and scales[0][0, 1] < scales[1][0, 1]


def test_jit_changes_nothing(observer):
    spec = next(specs(observer))
    statistic = measure_now(observer, jnp.asarray(EXACT), spec)
    assert_same(statistic, measure(observer, EXACT, spec))
    for ours, oracle in zip(resolve(observer, statistic, spec), resolve_now(observer, statistic, spec), strict=True):
        if oracle is not None:
            np.testing.assert_allclose(ours, oracle, rtol=ULP)


def test_bit_widths_share_one_program(observer):
    if CHANNEL not in specs(observer):
        return
    statistic = measure(observer, EXACT, CHANNEL)
    scales = [resolve(observer, statistic, CHANNEL)[0]]
    with count_programs() as counted:
        scales += [resolve(observer, statistic, QuantSpec(Integer(bits), Granularity.channel))[0] for bits in (6, 8)]
    assert counted == {} and np.all(np.diff(scales, axis=0) < 0)


def test_half_precision_is_measured_in_float32(observer):
    spec = QuantSpec(Integer(4))
    x = jnp.asarray(EXACT, jnp.bfloat16)
    assert_same(measure(observer, x, spec), measure(observer, x.astype(jnp.float32), spec))
