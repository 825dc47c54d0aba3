"""Libra parameter binarization against IR-Net's equations 5 to 10: Qin et al., CVPR 2020."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.ede import EDE
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.irnet import IRNet

RNG = np.random.default_rng(0)
W = (RNG.standard_t(3, size=(3, 3, 2, 4)) * [0.02, 0.1, 1, 7] + 0.05).astype(np.float32)
G = RNG.normal(size=W.shape).astype(np.float32)
SPEC = QuantSpec(Binary(), Granularity.channel)


def found(w, progress=0.6, spec=SPEC):
    """(w_hat, dw)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=EDE(), progress=progress)
    contract = (0, 1, 2)
    value, pull = jax.vjp(
        jax.jit(lambda w: IRNet(AbsMax()).apply(w, {}, rounding, contract=contract, spec=spec)), jnp.asarray(w)
    )
    return np.asarray(value), np.asarray(pull(jnp.asarray(G))[0])


def libra(channel):
    """(w', 2^s) of one output channel in float64."""
    w = channel - channel.mean()
    w = w / np.sqrt(np.sum(w**2) / (w.size - 1))
    return w, 2.0 ** np.rint(np.log2(np.mean(np.abs(w))))


def test_forward_against_the_equations():
    value, _ = found(W)
    for channel in range(4):
        standard, size = libra(np.float64(W[..., channel]))
        np.testing.assert_array_equal(value[..., channel], size * np.where(standard < 0, -1, 1))
    assert len({float(v) for v in np.abs(value).ravel()} - {0.5, 1.0}) == 0


@pytest.mark.parametrize("progress", [0.0, 0.6])
def test_gradient_against_a_finite_difference(progress):
    """Of sum g 2^s k tanh(t w'(w)) with s held: the mean and the deviation have a gradient, s has none."""
    t = 0.1 * 100**progress
    k = max(1 / t, 1)
    _, dw = found(W, progress)
    for channel in range(4):
        w, g = np.float64(W[..., channel]), np.float64(G[..., channel])
        size = libra(w)[1]
        for index in [(0, 0, 0), (1, 2, 1), (2, 2, 0)]:
            step = 1e-6 * np.std(w)
            sides = []
            for sign in (1, -1):
                moved = w.copy()
                moved[index] += sign * step
                sides.append(np.sum(g * size * k * np.tanh(t * libra(moved)[0])))
            assert dw[(*index, channel)] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=2e-3, abs=1e-4)


def test_half_of_the_weights_are_positive_though_all_weights_are():
    positive = np.abs(RNG.normal(size=(8, 8, 8, 2))).astype(np.float32) + 1
    rounding = functools.partial(fake_quantize, spec=SPEC, estimator=EDE())
    value = IRNet(AbsMax()).apply(jnp.asarray(positive), {}, rounding, contract=(0, 1, 2), spec=SPEC)
    share = np.mean(np.asarray(value) > 0)
    assert 0.35 < share < 0.65


def test_groups_without_a_spread_are_finite():
    value, dw = found(np.full_like(W, 0.5))
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(dw))
    assert np.max(np.abs(value)) < 1e-6


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match=r"^quantizer=irnet with grid=int8.*use format=binary"):
        IRNet(AbsMax()).check(QuantSpec(Integer(8)))
