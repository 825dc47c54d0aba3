"""The laws that every grid keeps at every granularity; a new file in configs/format joins by existing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from qresearch.config.nodes import plain, typed
from qresearch.config.rules import _grid
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import broadcast_groups, scale_shape
from qresearch.core.qtensor import dequantize, quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax

SHAPE = (8, 6)


def grid_of(path):
    """The grid of a format file."""
    cfg = OmegaConf.load(path)
    return _grid(typed(plain(cfg.grid), "grid"), cfg.bits or 8).with_sign(True)


GRIDS = {path.stem: functools.partial(grid_of, path) for path in sorted((CONFIG_FOLDER / "format").glob("*.yaml"))}
GRIDS |= {
    "int3 narrow": lambda: Integer(3, range=Range.narrow),
    "int3 half_step": lambda: Integer(3, range=Range.half_step),
    "uint5": lambda: Integer(5, signed=False),
    "uint1": lambda: Integer(1, signed=False),
    "int16": lambda: Integer(16),
    "uint4 zero point": lambda: Integer(4, zero_point=ZeroPoint.integer, signed=False),
    "int4 float zero point": lambda: Integer(4, zero_point=ZeroPoint.float),
    "e3m1": lambda: MiniFloat(3, 1, Special.finite),
    "e5m0": lambda: MiniFloat(5, 0, Special.finite),
}
GRANULARITIES = {
    "tensor": {},
    "channel": {"granularity": "channel"},
    "block": {"granularity": "block", "block_size": 4},
    "two-dimensional block": {"granularity": "block", "block_size": (4, 3)},
}


def spec_of(name, granularity="tensor", **more):
    return QuantSpec(GRIDS[name](), **GRANULARITIES[granularity], **more)


@functools.cache
def values_of(name):
    """Every value of the grid, in rising order, from its codes."""
    grid = GRIDS[name]()
    codes = jnp.arange(2 ** int(grid.bits), dtype=jnp.int32)
    if isinstance(grid, Integer):
        return np.arange(int(grid.low), int(grid.high) + 1).astype(np.float32)
    if name in ("ternary", "mid_rise"):
        return np.arange(float(grid.low), float(grid.high) + 1).astype(np.float32)
    values = np.unique(np.asarray(grid.decode(codes[: int(getattr(grid, "levels", codes).size)])))
    return values[np.isfinite(values)]


@functools.cache
def rounding(name, granularity):
    spec = spec_of(name, granularity)
    return jax.jit(lambda x, scale, zero: fake_quantize(x, scale, zero, spec, ClippedStraightThrough()))


def draw(name, granularity, seed, spread=1.0):
    """(x, scale, zero point): normal data, some of it far outside of the grid."""
    spec, rng = spec_of(name, granularity), np.random.default_rng(seed)
    groups = scale_shape(SHAPE, contract=(0,), spec=spec)
    scale = jnp.asarray(rng.uniform(0.5, 2.0, groups), jnp.float32)
    zero = None
    if not spec.grid.symmetric:
        zero = rng.integers(int(spec.grid.low), int(spec.grid.high) + 1, groups).astype(np.float32)
        zero = jnp.asarray(zero + (rng.uniform(size=groups) if spec.grid.zero_point == "float" else 0), jnp.float32)
    x = rng.normal(size=SHAPE) * spread * rng.choice([0.1, 1.0, 3.0], SHAPE) * float(spec.grid.high)
    return jnp.asarray(x, jnp.float32), scale, zero


def in_steps(x, scale, zero):
    """x in units of the scale."""
    x, scale = np.asarray(x, np.float32), np.asarray(broadcast_groups(scale, SHAPE))
    return x / scale + (0 if zero is None else np.asarray(broadcast_groups(zero, SHAPE)))


every_grid = pytest.mark.parametrize("name", GRIDS)
every_granularity = pytest.mark.parametrize("granularity", GRANULARITIES)
seeds = given(st.integers(0, 2**31 - 1))
few = settings(max_examples=8)


@every_grid
@every_granularity
@seeds
@few
def test_the_nearest_value_of_the_grid(name, granularity, seed):
    """On the grid; within half a gap inside it; its end outside of it; twice is once."""
    x, scale, zero = draw(name, granularity, seed)
    rounded = rounding(name, granularity)(x, scale, zero)
    values, v, q = values_of(name), in_steps(x, scale, zero), in_steps(rounded, scale, zero)
    tolerance = 4e-7 * (np.abs(v) + np.abs(values).max())  # q is computed back from (q - z) s
    gap = np.min(np.abs(q[..., None] - values), axis=-1)
    assert np.all(gap <= tolerance)
    best = np.min(np.abs(v[..., None] - values), axis=-1)
    assert np.all(np.abs(q - v) <= best + 2 * tolerance)
    outside = (v < values[0]) | (v > values[-1])
    assert np.any(outside) or name == "int16"
    np.testing.assert_allclose(q[outside], np.clip(v, values[0], values[-1])[outside], atol=tolerance.max())
    again = np.asarray(rounding(name, granularity)(rounded, scale, zero))
    if zero is None:
        np.testing.assert_array_equal(again, rounded)
    else:  # x / s + z is rounded twice, so that a value may miss its level by the last place of z
        np.testing.assert_allclose(again, rounded, atol=float(scale.max()) * tolerance.max())


@every_grid
@seeds
@few
def test_monotone_and_equivariant(name, seed):
    x, scale, zero = draw(name, "channel", seed)
    rising = jnp.sort(x, axis=0)
    assert np.all(np.diff(rounding(name, "channel")(rising, scale, zero), axis=0) >= 0)
    for factor in (0.25, 64.0):
        scaled = rounding(name, "channel")(factor * x, factor * scale, zero)
        np.testing.assert_array_equal(scaled, factor * rounding(name, "channel")(x, scale, zero))


@every_grid
@seeds
@few
def test_symmetric_where_its_values_are(name, seed):
    x, scale, zero = draw(name, "tensor", seed)
    if zero is not None:
        pytest.skip("a zero point breaks symmetry")
    values = values_of(name)
    rounded, mirrored = (np.asarray(rounding(name, "tensor")(y, scale, zero)) for y in (x, -x))
    inner = np.abs(x) <= min(-values[0], values[-1]) * float(scale[0, 0])
    if np.array_equal(values, -values[::-1]):
        np.testing.assert_array_equal(mirrored, -rounded)
    elif isinstance(GRIDS[name](), Integer) and values[0] < 0:
        np.testing.assert_array_equal(mirrored[inner], -rounded[inner])
    else:
        assert np.any(mirrored != -rounded)


@every_grid
@every_granularity
def test_zero_nan_and_infinity(name, granularity):
    _, scale, zero = draw(name, granularity, 0)
    x = jnp.zeros(SHAPE, jnp.float32).at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf).at[2, 2].set(-jnp.inf)
    rounded = np.asarray(rounding(name, granularity)(x, scale, zero))
    low, high = values_of(name)[[0, -1]]
    full, offset = broadcast_groups(scale, SHAPE), 0 if zero is None else broadcast_groups(zero, SHAPE)
    assert np.isnan(rounded[0, 0]) and np.isnan(rounded).sum() == 1
    np.testing.assert_array_equal(rounded[1, 1], ((high - offset) * full)[1, 1])
    np.testing.assert_array_equal(rounded[2, 2], ((low - offset) * full)[2, 2])
    has_zero = 0 in values_of(name) and (zero is None or "float" not in name)
    assert has_zero == (name not in ("binary", "mid_rise", "lloyd_max", "int4 float zero point"))
    if has_zero:
        assert np.all(rounded[3:] == 0)


@every_grid
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_dtype_stays_and_codes_decode_to_the_values(name, dtype):
    x, scale, zero = draw(name, "channel", 3, spread=0.2)
    x = jnp.clip(x, -1000.0, 1000.0).astype(dtype)
    spec = spec_of(name, "channel")
    rounded = rounding(name, "channel")(x, scale, zero)
    q = quantize(x, scale, zero, spec)
    assert rounded.dtype == dtype and jnp.issubdtype(q.codes.dtype, jnp.integer)
    np.testing.assert_array_equal(dequantize(q).astype(dtype), rounded)  # rounded once, at the end
    assert len(np.unique(q.codes)) <= int(spec.grid.count)


@every_grid
def test_it_knows_its_own_values(name):
    grid, values = GRIDS[name](), values_of(name)
    assert (float(grid.low), float(grid.high), int(grid.count)) == (values[0], values[-1], values.size)
    assert 0 < float(grid.reach) <= float(grid.high) + 0.5
    gap = values[-1] - values[-2]
    np.testing.assert_allclose(float(grid.top_step), gap * (2 if name == "e5m0" else 1), rtol=1e-6)  # an octave of one
    steps = np.diff(values)
    assert grid.uniform == (np.ptp(steps) < 1e-6 and not isinstance(grid, MiniFloat) and not hasattr(grid, "levels"))
    assert values.size <= 2 ** int(grid.bits) and grid.describe()
    np.testing.assert_array_equal(grid.decode(grid.encode(jnp.asarray(values))), values)


@every_grid
@pytest.mark.parametrize("shape", [(0, 6), (), (1,), (1, 1), (5,)])
def test_small_and_empty_arrays(name, shape):
    spec, x = spec_of(name), jnp.full(shape, 0.3, jnp.float32)
    scale, zero = jnp.ones((1,) * len(shape)), None if spec_of(name).grid.symmetric else jnp.ones((1,) * len(shape))
    value, pull = jax.vjp(lambda x, s: fake_quantize(x, s, zero, spec, ClippedStraightThrough()), x, scale)
    dx, ds = pull(jnp.ones_like(x))
    assert value.shape == dx.shape == shape and ds.shape == scale.shape
    assert quantize(x, scale, zero, spec).codes.shape == shape
    one = jnp.ones((1, 1))
    expected = rounding(name, "tensor")(0.3 * one, one, None if zero is None else one)
    assert np.all(np.asarray(value) == float(expected[0, 0]))


def test_a_very_large_array():
    """Indices beyond 2^24, where float32 would lose them: the last elements come out as the first."""
    x = jnp.tile(jnp.linspace(-2.0, 2.0, 4096), 4097).reshape(4097, 4096)
    spec = QuantSpec(MiniFloat(2, 1, Special.finite), "channel")
    rounded = fake_quantize(x, jnp.full((1, 4096), 0.25), None, spec, ClippedStraightThrough())
    np.testing.assert_array_equal(rounded[-1], rounded[0])


# Shapes and contracted axes of the layers that a scale may belong to.
LAYERS = {
    "dense": ((32, 6), (0,)),
    "convolution": ((3, 3, 32, 6), (0, 1, 2)),
    "grouped convolution": ((3, 3, 16, 6), (0, 1, 2)),
    "depthwise convolution": ((3, 3, 1, 6), (0, 1, 2)),
    "attention query": ((32, 2, 3), (0,)),
    "attention out": ((2, 16, 6), (0, 1)),
    "embedding": ((6, 32), (1,)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["int", "mxfp4", "nf4", "uint4 zero point"])
def test_every_kind_of_layer(layer, granularity, name):
    """One scale for each group, found against loops: the largest magnitude of a group lands on the grid's reach."""
    (shape, contract), spec = LAYERS[layer], spec_of(name, granularity)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    if granularity.endswith("block") and layer == "depthwise convolution":
        with pytest.raises(ValueError, match="block_size=4 does not divide axis 2"):
            scale_shape(shape, contract=contract, spec=spec)
        return
    observer = AbsMax() if spec.grid.symmetric else MinMax()
    scale, zero = observer.resolve(observer.measure(x, contract=contract, spec=spec), spec)
    error = np.abs(fake_quantize(x, scale, zero, spec, ClippedStraightThrough()) - x)
    for index in np.ndindex(scale.shape):
        part = tuple(slice(i * (n // g), (i + 1) * (n // g)) for i, n, g in zip(index, shape, scale.shape, strict=True))
        group = np.asarray(x[part])
        if zero is None:
            np.testing.assert_allclose(scale[index], np.abs(group).max() / float(spec.grid.reach), rtol=3e-7)
        else:
            spread = max(group.max(), 0) - min(group.min(), 0)
            np.testing.assert_allclose(scale[index], spread / (2 ** int(spec.grid.bits) - 1), rtol=3e-7)
        widest = np.diff(values_of(name)).max()
        assert error[part].max() <= float(scale[index]) * widest * (0.5 if zero is None else 1.0) * 1.001
    kept = [axis for axis in range(len(shape)) if axis not in contract]
    expected = {
        "tensor": (1,) * len(shape),
        "channel": tuple(1 if axis in contract else n for axis, n in enumerate(shape)),
        "block": tuple(n // 4 if axis == contract[-1] else n for axis, n in enumerate(shape)),
        "two-dimensional block": tuple(
            n // 4 if axis == contract[-1] else n // 3 if axis == kept[-1] else n for axis, n in enumerate(shape)
        ),
    }
    assert scale.shape == expected[granularity]


@pytest.mark.parametrize("mode", [Rounding.half_away, Rounding.floor, Rounding.ceil, Rounding.stochastic])
@every_grid
@seeds
@settings(max_examples=4)
def test_every_rounding_takes_a_neighbour(name, mode, seed):
    """With a scale of one nothing is lost by scaling: the value below or above, the one the mode says."""
    grid, values = GRIDS[name](), values_of(name)
    v = np.random.default_rng(seed).uniform(values[0] - 1, values[-1] + 1, 300).astype(np.float32)
    v = np.concatenate([v, values[:300], (values[:-1] + values[1:])[:300] / 2]).astype(np.float32)
    noise = jax.random.uniform(jax.random.key(seed), v.shape)
    q = np.asarray(grid.round(jnp.asarray(v), mode, noise))
    lower = values[np.maximum(np.searchsorted(values, v, side="right") - 1, 0)]
    upper = values[np.minimum(np.searchsorted(values, v, side="left"), values.size - 1)]
    if mode is Rounding.floor:
        expected = lower
    elif mode is Rounding.ceil:
        expected = upper
    elif mode is Rounding.half_away:
        nearer_up = np.where(v >= 0, upper - v <= v - lower, upper - v < v - lower)
        expected = np.where(nearer_up, upper, lower)
    else:
        inside, gap = np.clip(v, values[0], values[-1]), np.maximum(upper - lower, 1e-30)
        share = np.where(upper > lower, (inside - lower) / gap, 0)
        decided = np.abs(np.asarray(noise) - share) > 1e-5
        expected = np.where(decided, np.where(np.asarray(noise) < share, upper, lower), q)
    assert np.all((q == lower) | (q == upper))
    if mode is Rounding.half_away and hasattr(grid, "levels"):  # a middle that float32 rounds is no tie
        expected = np.where(np.abs((upper - v) - (v - lower)) < 1e-6, q, expected)
    if not (isinstance(grid, MiniFloat) and mode is Rounding.stochastic):  # its octave of the step is below v
        np.testing.assert_array_equal(q, expected)
