"""The scale for normal values against the tables of Max and QuEST, and against a slow search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.levels import Levels
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.nf4 import nf4
from qresearch.grids.ternary import Ternary
from qresearch.observers.gaussian import Gaussian, unit_scale

find = jax.jit(unit_scale)


def outermost(grid):
    return float(find(QuantSpec(grid)) * grid.high)


# Outermost level over sigma. QuEST, src/models/quantization/base_linear.py, OPTIMAL_GAUSSIAN_SCALES (1 to 6 bits, and
# ternary as 1.585); its 7 and 8 bits, 3.601 and 3.885, are not the optimum: those are theory/quest.py's.
@pytest.mark.parametrize(
    ("bits", "printed"),
    [
        (1, 0.7978845587140913),
        (2, 1.4935346200015913),
        (3, 2.051068354131873),
        (4, 2.513930578568423),
        (5, 2.9160938834961225),
        (6, 3.276597282593217),
        (7, 3.6111),
        (8, 3.9222),
    ],
)
def test_mid_rise_grids_of_quest(bits, printed):
    assert outermost(MidRise(bits)) == pytest.approx(printed, rel=2e-3)


def test_the_ternary_grid_of_quest():
    assert outermost(Ternary()) == pytest.approx(1.2240089519030855, rel=1e-3)


# Steps over sigma by numerical integration in float64; the narrow ones are Max's Table II for 2^b - 1 levels.
@pytest.mark.parametrize(
    ("range_", "steps"),
    [
        (Range.full, {2: 1.0484, 3: 0.6018, 4: 0.3386, 5: 0.1888, 6: 0.1042, 8: 0.0308}),
        (Range.narrow, {2: 1.2240, 3: 0.6508, 4: 0.3534, 5: 0.1932, 6: 0.1055, 8: 0.0309}),
    ],
)
def test_integer_grids(range_, steps):
    for bits, step in steps.items():
        assert float(find(QuantSpec(Integer(bits, range=range_)))) == pytest.approx(step, rel=2e-3)


def test_unsigned_grids_round_the_positive_part():
    """Steps over the sigma of z; E max(z, 0)^2 is half of E z^2."""
    for bits, step in {1: 1.2240, 2: 0.6508, 3: 0.3534, 4: 0.1932, 5: 0.1055, 6: 0.0573}.items():
        found = float(find(QuantSpec(Integer(bits, signed=False)))) * 0.5**0.5
        assert found == pytest.approx(step, rel=2e-3)


@pytest.mark.parametrize(
    "grid",
    [nf4(), MiniFloat(2, 1, Special.finite), Levels([-1.0, -0.25, 0.0, 0.25, 1.0, 3.0])],
    ids=lambda g: g.describe(),
)
def test_other_grids_against_a_slow_search(grid):
    z = np.linspace(-8, 8, 40_001)
    weights = np.exp(-(z**2) / 2) / np.sum(np.exp(-(z**2) / 2))
    every = np.unique(
        np.float64(grid.decode(jnp.arange(int(2**grid.bits) if grid.describe() == "e2m1" else grid.count)))
    )
    scales = np.arange(0.5, 6.0, 0.004) / max(-every[0], every[-1])
    middles = (every[1:] + every[:-1]) / 2
    errors = [np.sum(weights * (z - s * every[np.searchsorted(middles, z / s)]) ** 2) for s in scales]
    assert float(find(QuantSpec(grid))) == pytest.approx(scales[np.argmin(errors)], rel=3e-3)


def test_the_rounding_of_the_spec_counts():
    nearest, down = (
        find(QuantSpec(Integer(4), rounding=rounding)) for rounding in (Rounding.half_even, Rounding.floor)
    )
    assert down < 0.95 * nearest
    assert find(QuantSpec(Integer(4), rounding=Rounding.stochastic)) == nearest


def test_the_scale_follows_the_root_mean_square_and_no_mean():
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) * np.float32([0.1, 2]) + np.float32(0.3)
    observer, spec = Gaussian(), QuantSpec(Integer(3), Granularity.channel)
    parts = [observer.measure(jnp.asarray(part), contract=(0,), spec=spec) for part in (x[:40], x[40:])]
    scale, zero_point = jax.jit(lambda s: observer.resolve(s, spec))(observer.combine(*parts))
    root_mean_square = np.sqrt(np.mean(np.float64(x) ** 2, axis=0, keepdims=True))
    np.testing.assert_allclose(scale, root_mean_square * float(find(QuantSpec(Integer(3)))), rtol=1e-5)
    assert zero_point is None and scale.shape == (1, 2)


def test_a_zero_point_is_refused():
    with pytest.raises(ValueError, match=r"^grid.zero_point: .*; use observer=minmax"):
        Gaussian().check(QuantSpec(Integer(4, zero_point=ZeroPoint.integer)))
