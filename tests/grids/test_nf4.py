"""NF4 against the code book that bitsandbytes prints (Dettmers et al., QLoRA, 2023)."""

from statistics import NormalDist

import jax.numpy as jnp
import numpy as np

from qresearch.core.rounding import Rounding
from qresearch.grids.nf4 import OFFSET, nf4

PRINTED = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]


def test_the_levels_are_the_printed_ones():
    grid = nf4()
    assert np.array_equal(grid.levels, np.float32(PRINTED))
    assert (grid.count, grid.bits, grid.describe()) == (16, 4, "nf4 (16 levels)")
    assert grid.low == -1 and grid.high == 1 and grid.reach == 1


def test_they_are_quantiles():
    """In float64, without the roundings of the published arithmetic."""
    quantile = np.vectorize(NormalDist().inv_cdf)
    positive, negative = (quantile(np.linspace(0.9677083, 0.5, count + 1)) for count in (8, 7))
    np.testing.assert_allclose(nf4().levels, np.unique([*-negative, *positive]) / positive[0], atol=2.5e-7)


def test_the_offset_is_the_mean_of_two_half_cells():
    np.testing.assert_allclose(OFFSET, 1 - (1 / 32 + 1 / 30) / 2, atol=5e-8)


def test_values_take_the_nearest_level():
    v = np.linspace(-1.3, 1.3, 261).astype(np.float32)
    nearest = [min(PRINTED, key=lambda level: abs(level - value)) for value in v]
    assert np.array_equal(nf4().round(jnp.asarray(v), Rounding.half_even, None), np.float32(nearest))
