"""SAWB against its formula and the printed clips: Choi et al., 2018, arXiv:1807.06964."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.sawb import COEFFICIENTS, SAWB, clip_level

RNG = np.random.default_rng(0)
W, COTANGENT = (RNG.normal(size=(50, 4)).astype(np.float32) for _ in range(2))


def pulled(w, spec):
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    @jax.jit
    def rounded(w):
        return SAWB(AbsMax()).apply(w, {}, rounding, contract=(0,), spec=spec)

    found, pull = jax.vjp(rounded, jnp.asarray(w))
    return np.asarray(found), np.asarray(pull(jnp.asarray(COTANGENT))[0])


@pytest.mark.parametrize(
    ("bits", "clip", "best"),
    [(2, 1.4732, 1.4935), (3, 2.01, 2.051), (4, 2.4671, 2.514), (5, 2.8674, 2.916), (8, 3.8021, 3.927)],
)
def test_the_clip_of_a_normal_distribution(bits, clip, best):
    """Its moments are 1 and sqrt(2 / pi); the best outermost level of 2^b equal steps is Max's, 1960."""
    c1, c2 = COEFFICIENTS[bits]
    assert c1 + c2 * np.sqrt(2 / np.pi) == pytest.approx(clip, abs=6e-4)
    assert clip == pytest.approx(best, rel=0.035)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize(
    ("granularity", "columns"), [(Granularity.tensor, [slice(None)]), (Granularity.channel, range(4))]
)
def test_values_and_gradients(bits, granularity, columns):
    found, gradient = pulled(W, QuantSpec(MidRise(bits), granularity))
    steps, (c1, c2) = 2**bits - 1, COEFFICIENTS[bits]
    for column in columns:
        w = np.float64(W[:, column])
        alpha = c1 * np.sqrt(np.mean(w**2)) + c2 * np.mean(np.abs(w))
        share = np.clip(w / alpha, -1, 1) / 2 + 0.5
        np.testing.assert_allclose(found[:, column], alpha * (2 * np.rint(steps * share) / steps - 1), atol=1e-5)
        expected = np.where(np.abs(w) <= alpha, COTANGENT[:, column], 0)
        np.testing.assert_array_equal(gradient[:, column], expected)


def test_a_swept_width_without_coefficients_is_not_a_number():
    levels = jax.jit(jax.vmap(lambda bits: clip_level(jnp.asarray(W), (1, 1), bits)))(jnp.asarray([2, 6, 8, 16]))
    np.testing.assert_array_equal(np.isfinite(levels).ravel(), [True, False, True, False])


def test_weights_of_one_size_are_clipped_at_it():
    w = jnp.asarray([[0.5, 0.0], [-0.5, 0.0]])  # c1 + c2 < 0 at 4 bits; and a column of zeros
    np.testing.assert_array_equal(clip_level(w, (1, 2), 4), [[0.5, 0.0]])
    found, _ = pulled(np.tile(w, (25, 2)), QuantSpec(MidRise(4), Granularity.channel))
    np.testing.assert_allclose(np.abs(found[:, ::2]), 0.5, rtol=1e-6)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize(
    ("grid", "match"),
    [(Integer(4), "^grid=int4: .* format=mid_rise"), (MidRise(6), r"^bits=6: .* \[2, 3, 4, 5, 8\] bits")],
)
def test_what_it_refuses(grid, match):
    with pytest.raises(ValueError, match=match):
        SAWB(AbsMax()).check(QuantSpec(grid))
