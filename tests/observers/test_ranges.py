"""The observers that one formula describes: absmax, minmax and mean magnitude, against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.observers.minmax import MinMax

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32) + np.array([0.0, 0.5, 4.0], np.float32)
# The scale's shape, and x with the elements that share a scale along its last axis.
GROUPED = {
    Granularity.tensor: ((1, 1), X.reshape(1, -1)),
    Granularity.channel: ((1, 3), X.T),
    Granularity.block: ((3, 3), X.reshape(3, 4, 3).transpose(0, 2, 1).reshape(9, 4)),
}


def resolve(observer, spec):
    return observer.resolve(observer.measure(jnp.asarray(X), contract=(0,), spec=spec), spec)


def spec_of(granularity, **choices):
    return QuantSpec(Integer(4, **choices), granularity, 4 if granularity is Granularity.block else None)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_absmax(granularity):
    shape, groups = GROUPED[granularity]
    largest = np.abs(groups).max(axis=1).reshape(shape)
    for convention, steps in ((Range.narrow, 7), (Range.full, 7), (Range.half_step, 7.5)):
        scale, zero_point = resolve(AbsMax(), spec_of(granularity, range=convention))
        np.testing.assert_allclose(scale, largest / np.float32(steps), rtol=2e-7)  # the last bit is XLA's
        assert zero_point is None


@pytest.mark.parametrize("granularity", list(Granularity))
def test_minmax(granularity):
    shape, groups = GROUPED[granularity]
    low, high = np.minimum(groups.min(axis=1), 0).reshape(shape), np.maximum(groups.max(axis=1), 0).reshape(shape)
    scale, zero_point = resolve(MinMax(), spec_of(granularity, zero_point=ZeroPoint.integer, signed=False))
    np.testing.assert_allclose(scale, (high - low) / 15, rtol=1e-6)
    np.testing.assert_array_equal(zero_point, np.round(-low / ((high - low) / 15)))
    symmetric, _ = resolve(MinMax(), spec_of(granularity))
    np.testing.assert_array_equal(symmetric, resolve(AbsMax(), spec_of(granularity))[0])


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize(("signed", "qmax"), [(True, 7), (False, 15)])
def test_mean_magnitude(granularity, signed, qmax):
    """Esser et al. 2020, section 2.1: the step size starts at 2 mean|v| / sqrt(Q_P), for every range convention."""
    shape, groups = GROUPED[granularity]
    expected = (2 * np.abs(groups.astype(np.float64)).mean(axis=1) / np.sqrt(qmax)).reshape(shape)
    for convention in Range:
        scale, _ = resolve(MeanMagnitude(), spec_of(granularity, signed=signed, range=convention))
        np.testing.assert_allclose(scale, expected, rtol=1e-6)
