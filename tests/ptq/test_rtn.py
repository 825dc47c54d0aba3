"""Round to nearest against the search that it stands for: for every weight, the code with the closest value."""

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.granularity import broadcast_groups, scale_shape
from qresearch.core.qtensor import dequantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.ptq.rtn import RTN

W = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("granularity", "block_size"), [(Granularity.tensor, None), (Granularity.channel, None), (Granularity.block, 2)]
)
@pytest.mark.parametrize("kind", [ZeroPoint.none, ZeroPoint.integer])
def test_every_weight_gets_the_closest_code(granularity, block_size, kind):
    symmetric = kind is ZeroPoint.none
    spec = QuantSpec(Integer(3, kind, signed=symmetric), granularity, block_size)
    rng = np.random.default_rng(1)
    groups = scale_shape(W.shape, contract=(0,), spec=spec)
    scale = rng.uniform(0.2, 0.7, groups).astype(np.float32)
    zero_point = None if symmetric else jnp.asarray(rng.integers(0, 8, groups).astype(np.float32))
    solved = RTN().solve(jnp.asarray(W), scale=jnp.asarray(scale), zero_point=zero_point, spec=spec)
    s = np.asarray(broadcast_groups(jnp.asarray(scale), W.shape))
    z = 0.0 if zero_point is None else np.asarray(broadcast_groups(zero_point, W.shape))
    codes = np.arange(int(spec.grid.low), int(spec.grid.high) + 1)
    values = (codes[:, None, None] - z) * s  # every value that each weight could take
    closest = np.abs(values - W).argmin(axis=0)
    np.testing.assert_array_equal(solved.codes, codes[closest])
    np.testing.assert_allclose(dequantize(solved), np.take_along_axis(values, closest[None], 0)[0], rtol=1e-6)


def test_ties_go_to_the_even_code():
    solved = RTN().solve(
        jnp.array([0.5, 1.5, 2.5, -0.5, -1.5]), scale=jnp.ones(1), zero_point=None, spec=QuantSpec(Integer(4))
    )
    assert solved.codes.tolist() == [0, 2, 2, 0, -2]
