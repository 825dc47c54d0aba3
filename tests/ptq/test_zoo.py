"""The laws of every layer algorithm; a new one joins by existing in qresearch/ptq."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.program import count_programs, program
from qresearch.core.qtensor import dequantize
from qresearch.core.scale import scale_from_range
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint

W = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
SPECS = {
    "symmetric": QuantSpec(Integer(3), Granularity.channel),
    "affine": QuantSpec(Integer(3, zero_point=ZeroPoint.integer, signed=False), Granularity.channel),
}


@pytest.mark.parametrize("kind", SPECS)
def test_codes_lie_in_range_and_the_scale_is_the_one_given(ptq_class, kind):
    spec = SPECS[kind]
    scale, zero_point = scale_from_range(
        0.5 * jnp.asarray(W).min(0, keepdims=True), 0.5 * jnp.asarray(W).max(0, keepdims=True), spec
    )
    solved = ptq_class().solve(jnp.asarray(W), scale=scale, zero_point=zero_point, spec=spec)
    assert solved.codes.shape == W.shape and jnp.issubdtype(solved.codes.dtype, jnp.integer)
    ends = int(solved.codes.min()), int(solved.codes.max())
    assert ends == (int(spec.grid.low), int(spec.grid.high))  # half the range is clipped
    np.testing.assert_array_equal(solved.scale, scale)
    assert (zero_point is None) == (solved.zero_point is None)
    if zero_point is not None:
        np.testing.assert_array_equal(solved.zero_point, zero_point)


def test_it_is_no_worse_than_half_a_step_where_nothing_is_clipped(ptq_class):
    """Fine grids leave no choice that matters: every algorithm comes close to the weights."""
    spec = QuantSpec(Integer(8), Granularity.channel)
    scale, _ = scale_from_range(jnp.asarray(W).min(0, keepdims=True), jnp.asarray(W).max(0, keepdims=True), spec)
    values = dequantize(ptq_class().solve(jnp.asarray(W), scale=scale, zero_point=None, spec=spec))
    assert np.mean((values - W) ** 2) <= 4 * np.mean(np.square(scale)) / 12


def test_compiled_with_traced_bits_it_is_the_same(ptq_class):
    method, scale = ptq_class(), jnp.full((1, 4), 0.3)

    @program
    def solve(method, spec):
        return method.solve(jnp.asarray(W), scale=scale, zero_point=None, spec=spec)

    with count_programs() as counted:
        for bits in (2, 4):
            spec = QuantSpec(Integer(bits), Granularity.channel)
            plain = method.solve(jnp.asarray(W), scale=scale, zero_point=None, spec=spec)
            np.testing.assert_array_equal(solve(method, jax.tree.map(jnp.int32, spec)).codes, plain.codes)
    assert counted == {"solve": 1}
