"""The percentile of a histogram against numpy's percentile of the data: equal within one bin."""

import numpy as np
import pytest

from qresearch.core.program import count_programs, program
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.observers.histogram import MANTISSA_BITS
from qresearch.observers.percentile import Percentile

BIN = 2.0**-MANTISSA_BITS  # relative width
# A prime number of elements, so that no percentile falls on the step between two of them.
X = np.random.default_rng(0).standard_t(4, size=(10_007, 2)).astype(np.float32) * np.array([1.0, 5.0], np.float32) + 0.5


@program
def found(observer, x, spec):
    return observer.resolve(observer.measure(x, contract=(0,), spec=spec), spec)


def resolve(x, percentile, spec):
    return found(Percentile(percentile), x, spec)


def numpy_percentile(x, percentile, axis=None):
    return np.percentile(x, percentile, axis=axis, method="inverted_cdf", keepdims=True)


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9, 99.99])
def test_symmetric(percentile):
    scale, _ = resolve(X, percentile, QuantSpec(Integer(8)))
    np.testing.assert_allclose(127 * np.asarray(scale), numpy_percentile(np.abs(X), percentile), rtol=BIN)
    scale, _ = resolve(X, percentile, QuantSpec(Integer(8), Granularity.channel))
    np.testing.assert_allclose(127 * np.asarray(scale), numpy_percentile(np.abs(X), percentile, axis=0), rtol=BIN)


def test_unsigned():
    x = np.maximum(X, 0)  # a third of it is zero, as after a ReLU
    for percentile in (90.0, 99.9):
        scale, _ = resolve(x, percentile, QuantSpec(Integer(8, signed=False)))
        np.testing.assert_allclose(255 * np.asarray(scale), numpy_percentile(x, percentile), rtol=BIN)


def test_affine():
    low, high = numpy_percentile(X, 0.5), numpy_percentile(X, 99.5)
    scale, zero_point = resolve(X, 99.5, QuantSpec(Integer(8, zero_point=ZeroPoint.integer, signed=False)))
    np.testing.assert_allclose(255 * np.asarray(scale), high - low, rtol=BIN)
    assert abs(zero_point.item() - (-low / (high - low) * 255).item()) <= 0.5 + 255 * BIN


def test_all_of_the_data_is_the_largest_value():
    scale, _ = resolve(X, 100.0, QuantSpec(Integer(8)))
    largest = np.abs(X).max()
    assert largest <= 127 * scale.item() * (1 + 1e-6) and 127 * scale.item() <= largest * (1 + BIN)


def test_inside_a_bin_the_value_is_interpolated():
    """Many values in one bin: the percentiles are as far along it as they are along the data."""
    x = (1 + BIN * np.random.default_rng(0).uniform(size=X.shape)).astype(np.float32)
    x[:, 0] = 0.5  # half of the values lie below that bin
    for percentile in (60.0, 75.0, 95.0):
        scale, _ = resolve(x, percentile, QuantSpec(Integer(8)))
        assert 127 * scale.item() == pytest.approx(numpy_percentile(x, percentile).item(), abs=0.02 * BIN)


def test_percentiles_share_one_trace():
    """A number that may be swept: it is a leaf."""
    scales = [resolve(X, 50.0, QuantSpec(Integer(8)))[0].item()]
    with count_programs() as counted:
        scales += [resolve(X, percentile, QuantSpec(Integer(8)))[0].item() for percentile in (99.0, 99.99)]
    assert counted == {} and scales[0] < scales[1] < scales[2] and scales[0] < scales[2] / 4


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.5, 1000])
def test_what_is_no_percentile(percentile):
    with pytest.raises(ValueError, match=rf"^percentile={percentile} is outside \(0, 100\]; 99\.99 clips one value in"):
        Percentile(percentile)
