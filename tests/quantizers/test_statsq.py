"""StatsQ against its formula: Liu et al., "Oscillation-free Quantization", ICML 2023, arXiv:2302.02210, equation 7."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.statsq import StatsQ

RNG = np.random.default_rng(0)
W, COTANGENT = (RNG.normal(size=(60, 3)).astype(np.float32) for _ in range(2))


def pulled(w, spec):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=StraightThrough())

    @jax.jit
    def rounded(w):
        return StatsQ(AbsMax()).apply(w, {}, rounding, contract=(0,), spec=spec)

    found, pull = jax.vjp(rounded, jnp.asarray(w))
    return np.asarray(found), np.asarray(pull(jnp.asarray(COTANGENT))[0])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_values_and_gradients(bits):
    """One scale for each output, as in the authors' code, and the gradient of each weight whole."""
    found, gradient = pulled(W, QuantSpec(MidRise(bits), Granularity.channel))
    n = 2 ** (bits - 1)
    for column in range(3):
        w = np.float64(W[:, column])
        s = 2 * np.mean(np.abs(w))
        for got, value in zip(found[:, column], w, strict=True):
            clipped = min(max(value / s, -1), 1 - 1e-6)
            assert got == pytest.approx(s * (np.rint(clipped * n - 0.5) + 0.5) / n, rel=1e-5)
    np.testing.assert_array_equal(gradient, COTANGENT)
    assert np.abs(W[:, 0]).max() > 2 * np.abs(W[:, 0]).mean()  # some are clipped


def test_zeros_stay_finite():
    found, _ = pulled(np.zeros_like(W), QuantSpec(MidRise(2), Granularity.channel))
    assert np.all(np.isfinite(found))


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match=r"^grid=int4: .* format=mid_rise"):
        StatsQ(AbsMax()).check(QuantSpec(Integer(4)))
