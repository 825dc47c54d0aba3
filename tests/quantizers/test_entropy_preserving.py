"""Entropy-preserving weights against the authors' form: N2UQ, Liu et al., CVPR 2022, section 3.3, in float64."""

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
from qresearch.quantizers.entropy_preserving import EntropyPreserving

W = np.random.default_rng(0).laplace(size=(64, 3)).astype(np.float32) * np.float32([0.01, 1, 30])


def found(w, spec):
    """(w_hat, dw for a gradient of 1)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=StraightThrough())
    apply = EntropyPreserving(AbsMax()).apply
    value, pull = jax.vjp(jax.jit(lambda w: apply(w, {}, rounding, contract=(0,), spec=spec)), jnp.asarray(w))
    return np.asarray(value), np.asarray(pull(jnp.ones_like(value))[0])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_against_the_authors(bits):
    value, dw = found(W, QuantSpec(MidRise(bits), Granularity.channel))
    w, most = np.float64(W), 2**bits - 1
    factor = most / 2 ** (bits - 1) * np.mean(np.abs(w), axis=0, keepdims=True)
    n = most / 2
    expected = factor * (np.rint((np.clip(w / factor, -1, 1) + 1) * n) / n - 1)
    np.testing.assert_allclose(value / factor, expected / factor, atol=1e-6)
    np.testing.assert_array_equal(dw, 1)
    assert len(np.unique(np.round(value / factor, 4))) == 2**bits


def test_the_codes_of_laplace_weights_are_filled_alike():
    """Entropy at two bits: more than with the scale of the largest magnitude, and nearly all of the two bits."""
    w = np.random.default_rng(1).laplace(size=(4000, 1)).astype(np.float32)
    spec = QuantSpec(MidRise(2))
    widest = fake_quantize(jnp.asarray(w), jnp.full((1, 1), np.abs(w).max() / 1.5), None, spec, StraightThrough())

    def entropy(values):
        share = np.unique(np.asarray(values), return_counts=True)[1] / w.size
        return -np.sum(share * np.log2(share))

    assert entropy(found(w, spec)[0]) > 1.9 > 1.3 > entropy(widest)


def test_zeros_are_finite_and_other_grids_refused():
    value, _ = found(np.zeros((4, 2), np.float32), QuantSpec(MidRise(2)))
    assert np.all(np.isfinite(value))
    with pytest.raises(ValueError, match=r"^quantizer=entropy_preserving with grid=int4.*use format=mid_rise"):
        EntropyPreserving(AbsMax()).check(QuantSpec(Integer(4)))
