"""Codes and the numbers that give them meaning: the grid of fake_quantize, in the smallest integers that hold it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.qtensor import dequantize, quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import LARGEST_BITS, Integer, Range, ZeroPoint

STE = ClippedStraightThrough()
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)


def qparams(spec, dtype=jnp.float32):
    rng = np.random.default_rng(1)
    groups = scale_shape(X.shape, contract=(0,), spec=spec)
    scale = jnp.asarray(rng.uniform(0.1, 0.5, size=groups), dtype)
    if spec.grid.symmetric:
        return scale, None
    return scale, jnp.asarray(rng.integers(int(spec.grid.low), int(spec.grid.high) + 1, size=groups), dtype)


@pytest.mark.parametrize(
    "granularity", [(Granularity.tensor, None), (Granularity.channel, None), (Granularity.block, 2)]
)
@pytest.mark.parametrize("zero_point", [ZeroPoint.none, ZeroPoint.integer])
def test_dequantize_of_quantize_is_fake_quantize(granularity, zero_point):
    for bits, signed in itertools.product((2, 4, 8, 16), (True, False)):
        spec = QuantSpec(Integer(bits, zero_point, signed, Range.full), *granularity)
        scale, zero = qparams(spec)
        q = quantize(X, scale, zero, spec)
        assert q.codes.shape == X.shape and q.scale is scale and q.zero_point is zero
        low, high = (bound.astype(q.codes.dtype) for bound in (spec.grid.low, spec.grid.high))
        assert q.codes.min() >= low and q.codes.max() <= high
        np.testing.assert_array_equal(dequantize(q), fake_quantize(X, scale, zero, spec, STE))


def test_half_precision():
    spec = QuantSpec(Integer(4), Granularity.channel)
    scale, _ = qparams(spec)
    x = X.astype(jnp.bfloat16)
    values = dequantize(quantize(x, scale, None, spec))
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values.astype(jnp.bfloat16), fake_quantize(x, scale, None, spec, STE))


def test_codes_are_stored_in_the_smallest_type():
    for bits, signed in itertools.product(range(1, LARGEST_BITS + 1), (True, False)):
        if bits == 1 and signed:
            continue
        spec = QuantSpec(Integer(bits, signed=signed, range=Range.full))
        codes = quantize(jnp.array([-1e9, 1e9]), jnp.ones(1), None, spec).codes
        assert codes.dtype == np.dtype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}")
        assert codes.tolist() == [int(spec.grid.low), int(spec.grid.high)]


def test_a_traced_width_gives_int32():
    spec = QuantSpec(Integer(jnp.int32(3)))
    q = jax.jit(quantize)(X, jnp.full((1, 1), 0.25), None, spec)
    assert q.codes.dtype == jnp.int32
    np.testing.assert_array_equal(q.codes, quantize(X, jnp.full((1, 1), 0.25), None, QuantSpec(Integer(3))).codes)


def test_it_is_a_pytree():
    spec = QuantSpec(Integer(4, zero_point=ZeroPoint.integer))
    q = quantize(X, *qparams(spec), spec)
    again = jax.jit(lambda q: q)(q)
    assert jax.tree.structure(again) == jax.tree.structure(q) and again.spec.grid.symmetric is False
    np.testing.assert_array_equal(dequantize(again), dequantize(q))
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), q, again)
    np.testing.assert_array_equal(jax.vmap(dequantize)(stacked)[1], dequantize(q))
