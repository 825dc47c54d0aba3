"""Learned step size against the paper: Esser et al., "Learned Step Size Quantization", ICLR 2020."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import MARGIN, fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.minifloat import MiniFloat
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.lsq import LSQ, scale_gradient

GRID = np.linspace(-6.31, 6.37, 127).astype(np.float32)


def paper(v, s, q_n, q_p):
    """Equation 3: the derivative of v_hat by s, one value at a time."""
    if v / s <= -q_n:
        return -q_n
    if v / s >= q_p:
        return q_p
    return -v / s + np.rint(v / s)


def slopes(x, scale, spec, **options):
    """The derivative of every rounded value by the scale, as LSQ passes it on."""

    def rounded(scale, spec):
        rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())
        return LSQ(AbsMax()).apply(x, {"scale": scale}, rounding, contract=(0,), spec=spec, **options)

    x = jnp.asarray(x)
    return np.asarray(jax.jit(jax.jacrev(rounded))(scale, spec))


@pytest.mark.parametrize(("bits", "signed", "q_n", "q_p"), [(2, True, 2, 1), (3, True, 4, 3), (3, False, 0, 7)])
@pytest.mark.parametrize("s", [0.31, 0.8, 1.5])
def test_gradient_against_equation_3(bits, signed, q_n, q_p, s):
    """Signed codes run from -2^(b-1) in the paper, which is the full range here."""
    spec = QuantSpec(Integer(bits, signed=signed, range=Range.full))
    distance = np.minimum(np.abs(GRID / s - q_p), np.abs(GRID / s + q_n))
    v = GRID[distance >= 2 * MARGIN * (q_p + q_n)]  # what lies on a bound has tests of its own
    found = slopes(v[:, None], np.full((1, 1), s, np.float32), spec).reshape(-1)
    expected = np.array([paper(value, s, q_n, q_p) for value in v]) / np.sqrt(v.size * q_p)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert len(v) > 100


@pytest.mark.parametrize(
    ("granularity", "block_size", "sharing"),
    [(Granularity.tensor, None, 48), (Granularity.channel, None, 12), (Granularity.block, 4, 4)],
)
def test_the_factor_counts_the_elements_that_share_a_scale(granularity, block_size, sharing):
    """Section 2.2: g = 1 / sqrt(N_W Q_P)."""
    spec = QuantSpec(Integer(3), granularity, block_size)
    x = np.full((12, 4), 100.0, np.float32)  # all clipped: each element adds qmax
    scale = np.ones(scale_shape(x.shape, contract=(0,), spec=spec), np.float32)
    total = slopes(x, scale, spec).sum(axis=(0, 1))
    np.testing.assert_allclose(total, np.full(scale.shape, sharing * 3 / np.sqrt(sharing * 3)), rtol=1e-6)


def test_the_factor_of_an_input_counts_the_features_of_one_sample():
    """Section 2.2: for activations N is the number of features in the layer: the size of the batch does not count."""
    x, spec = np.full((8, 5), 100.0, np.float32), QuantSpec(Integer(3))
    total = slopes(x, np.ones((1, 1), np.float32), spec, samples=8).sum()
    assert total == pytest.approx(8 * 5 * 3 / np.sqrt(5 * 3))


def test_the_start_is_the_papers():
    """Section 2.1: 2 mean|v| / sqrt(Q_P)."""
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    observer, spec = MeanMagnitude(), QuantSpec(Integer(3), Granularity.channel)
    qparams = LSQ(observer).init(observer.measure(jnp.asarray(x), contract=(0,), spec=spec), spec)
    np.testing.assert_allclose(qparams["scale"][0], 2 * np.abs(x).mean(axis=0) / np.sqrt(3), rtol=1e-6)
    assert set(qparams) == {"scale"}


@pytest.mark.parametrize("zero_point", [ZeroPoint.integer, ZeroPoint.float])
def test_an_affine_grid_is_refused(zero_point):
    with pytest.raises(ValueError, match=r"^grid.zero_point: LSQ learns a scale and no zero point; use .*static"):
        LSQ(AbsMax()).check(QuantSpec(Integer(3, zero_point)))


def test_a_grid_of_unequal_steps_is_refused():
    with pytest.raises(ValueError, match=r"^grid=e4m3fn: LSQ learns the step of a grid of equal steps, .*use .*static"):
        LSQ(AbsMax()).check(QuantSpec(MiniFloat(4, 3)))


def test_the_damping_keeps_the_value():
    value, slope = jax.value_and_grad(lambda s: scale_gradient(s, jnp.float32(0.01)).sum())(jnp.array([0.1, 3.0]))
    assert value == jnp.float32(0.1) + 3.0
    np.testing.assert_allclose(slope, 0.01)
