"""Learned step size against the paper: Esser et al., "Learned Step Size Quantization", ICLR 2020."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import MARGIN, fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.spec import Granularity, QuantSpec, Range
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
        return fake_quantize(x, *LSQ(AbsMax()).scale(x, {"scale": scale}, contract=(0,), spec=spec, **options), spec)

    x = jnp.asarray(x)
    return np.asarray(jax.jit(jax.jacrev(rounded))(scale, spec))


@pytest.mark.parametrize(("bits", "signed", "q_n", "q_p"), [(2, True, 2, 1), (3, True, 4, 3), (3, False, 0, 7)])
@pytest.mark.parametrize("s", [0.31, 0.8, 1.5])
def test_gradient_against_equation_3(bits, signed, q_n, q_p, s):
    """Signed codes run from -2^(b-1) in the paper, which is the full range here."""
    spec = QuantSpec(bits, signed=signed, range=Range.full)
    on_a_bound = (np.abs(GRID / s - q_p) < 2 * MARGIN * (q_p + q_n)) | (
        np.abs(GRID / s + q_n) < 2 * MARGIN * (q_p + q_n)
    )
    v = GRID[~on_a_bound]
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
    spec = QuantSpec(3, granularity, block_size)
    x = np.full((12, 4), 100.0, np.float32)  # all clipped: each element adds qmax
    scale = np.ones(scale_shape(x.shape, contract=(0,), spec=spec), np.float32)
    total = slopes(x, scale, spec).sum(axis=(0, 1))
    np.testing.assert_allclose(total, np.full(scale.shape, sharing * 3 / np.sqrt(sharing * 3)), rtol=1e-6)


def test_the_factor_of_an_input_counts_the_features_of_one_sample():
    """Section 2.2: for activations N is the number of features in the layer: the size of the batch does not count."""
    x, spec = np.full((8, 5), 100.0, np.float32), QuantSpec(3)
    total = slopes(x, np.ones((1, 1), np.float32), spec, samples=8).sum()
    assert total == pytest.approx(8 * 5 * 3 / np.sqrt(5 * 3))


def test_the_start_is_the_papers():
    """Section 2.1: 2 mean|v| / sqrt(Q_P)."""
    x, spec = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32), QuantSpec(3, Granularity.channel)
    observer = MeanMagnitude()
    qparams = LSQ(observer).init(observer.measure(jnp.asarray(x), contract=(0,), spec=spec), spec)
    np.testing.assert_allclose(qparams["scale"][0], 2 * np.abs(x).mean(axis=0) / np.sqrt(3), rtol=1e-6)
    assert set(qparams) == {"scale"}


def test_an_affine_grid_is_refused():
    spec = QuantSpec(3, symmetric=False)
    with pytest.raises(
        ValueError, match=r"^symmetric=false: LSQ learns a scale and no zero point; set symmetric=true or"
    ):
        LSQ(AbsMax()).init(AbsMax().measure(jnp.ones((4, 1)), contract=(0,), spec=spec), spec)


def test_the_damping_keeps_the_value():
    value, slope = jax.value_and_grad(lambda s: scale_gradient(s, jnp.float32(0.01)).sum())(jnp.array([0.1, 3.0]))
    assert value == jnp.float32(0.1) + 3.0
    np.testing.assert_allclose(slope, 0.01)
