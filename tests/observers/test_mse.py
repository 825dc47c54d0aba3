"""The range of least squared error against an exhaustive search on the raw data, and the optima of the literature."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.observers.histogram import MANTISSA_BITS
from qresearch.observers.mse import MSE

RATIOS = np.geomspace(0.05, 1.0, 96)
X = np.random.default_rng(0).standard_t(4, size=(1000, 2)).astype(np.float32) * np.array([1.0, 3.0], np.float32)
SPECS = {
    "signed": lambda bits: QuantSpec(Integer(jnp.int32(bits))),
    "unsigned": lambda bits: QuantSpec(Integer(jnp.int32(bits), signed=False)),
    "affine": lambda bits: QuantSpec(Integer(jnp.int32(bits), zero_point=ZeroPoint.integer, signed=False)),
    "channel": lambda bits: QuantSpec(Integer(jnp.int32(bits)), Granularity.channel),
}


@jax.jit
def found(observer, x, spec):
    return observer.resolve(observer.measure(x, contract=(0,), spec=spec), spec)


def resolve(x, spec, observer=None):
    return found(observer or MSE(), x, spec)


def squared_error(x, scale, zero_point, spec):
    """Mean over the elements that share a scale, in float64."""
    qmin, qmax = float(spec.grid.low), float(spec.grid.high)
    rounded = (np.clip(np.round(x / scale + zero_point), qmin, qmax) - zero_point) * scale
    axis = 0 if spec.granularity is Granularity.channel else None
    return ((x - rounded) ** 2).mean(axis=axis)


def edge(largest):
    """Where the histogram bin of the largest value ends: up to 2^-8 above it. The search starts there."""
    mantissa, exponent = np.frexp(np.maximum(largest, 2.0**-30))
    return np.ldexp((np.floor(mantissa * 2 ** (MANTISSA_BITS + 1)) + 1) / 2 ** (MANTISSA_BITS + 1), exponent)


def exhaustive(x, spec):
    """The least error over RATIOS of the range of the data, in numpy."""
    axis = 0 if spec.granularity is Granularity.channel else None
    low, high = -edge(-x.min(axis=axis)), edge(x.max(axis=axis))
    qmin, qmax = float(spec.grid.low), float(spec.grid.high)
    errors = []
    for ratio in RATIOS:
        if spec.grid.symmetric:
            scale, zero_point = ratio * (np.maximum(-low, high) if spec.grid.signed else high) / qmax, 0.0
        else:
            scale = ratio * (high - low) / (qmax - qmin)
            zero_point = np.clip(np.round(qmin - ratio * low / scale), qmin, qmax)
        errors.append(squared_error(x, scale, zero_point, spec))
    return np.min(errors, axis=0)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_against_an_exhaustive_search(kind, bits):
    spec = SPECS[kind](bits)
    x = (np.maximum(X, 0) if kind == "unsigned" else X).astype(np.float64)
    scale, zero_point = resolve(x.astype(np.float32), spec)
    reached = squared_error(
        x, np.asarray(scale, np.float64), 0.0 if zero_point is None else np.asarray(zero_point, np.float64), spec
    )
    assert np.all(reached <= 1.01 * exhaustive(x, spec))


# 4001 quantiles of the normal distribution: a sample without noise.
NORMAL = np.array([[statistics.NormalDist().inv_cdf((i + 0.5) / 4001)] for i in range(4001)], np.float32)


@pytest.mark.parametrize(("bits", "step"), [(2, 1.224), (3, 0.6508), (4, 0.3534)])
def test_normal_data_against_the_table_of_max(bits, step):
    """J. Max, "Quantizing for minimum distortion", IRE Transactions on Information Theory 6, 1960, table II: the
    optimal uniform quantizers of 3, 7 and 15 levels.
    """
    scale, _ = resolve(NORMAL, QuantSpec(Integer(jnp.int32(bits), range=Range.narrow)))
    assert scale.item() == pytest.approx(step, rel=0.03)  # neighbouring ratios are 3 % apart


def test_normal_data_against_aciq():
    """Banner et al. 2019: normal data is best clipped at 2.55 sigma for 4 bits, where the last of 16 cells ends."""
    scale, _ = resolve(NORMAL, QuantSpec(Integer(4, range=Range.half_step)))
    assert 7.5 * scale.item() == pytest.approx(2.55, rel=0.05)


def test_the_grid_of_each_range_convention_is_the_one_searched():
    for convention in Range:
        spec = QuantSpec(Integer(jnp.int32(2), range=convention))
        scale = np.float64(resolve(X, spec)[0])
        errors = [squared_error(X, factor * scale, 0.0, spec) for factor in (0.8, 1.0, 1.25)]
        assert min(errors) == errors[1]


@pytest.mark.parametrize(("lowest", "clips"), [(1.0, False), (0.05, True)])
def test_the_lowest_ratio_bounds_the_search(lowest, clips):
    scale, _ = resolve(X, QuantSpec(Integer(jnp.int32(2))), MSE(lowest))
    assert bool(scale.item() < 0.9 * np.abs(X).max()) is clips


@pytest.mark.parametrize("lowest", [0.0, -0.5, 1.5])
def test_what_is_no_ratio(lowest):
    with pytest.raises(ValueError, match=rf"^lowest={lowest} is outside \(0, 1\]"):
        MSE(lowest)


def test_what_is_no_search():
    with pytest.raises(ValueError, match=r"^candidates=1 is no search; give at least 2"):
        MSE(candidates=1)
