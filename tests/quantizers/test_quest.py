"""QuEST against the authors' form: Panferov et al., 2025, arXiv:2502.05003, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import reduce_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.trust import Trust
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.quest import QuEST, hadamard_matrix, largest_block, rotate

ALPHA = {1: 0.7978845587140913, 2: 1.4935346200015913, 4: 2.513930578568423}  # the authors' table
RNG = np.random.default_rng(0)


@pytree_dataclass
class Table:
    """The authors' scale: alpha times the root mean square, at the outermost level."""

    alpha: float = leaf()

    def check(self, spec):
        pass

    def measure(self, x, *, contract, spec):
        groups = scale_shape(x.shape, contract=contract, spec=spec)
        return jnp.sqrt(reduce_groups(jnp.mean, x.astype(jnp.float32) ** 2, groups))

    def combine(self, a, b):
        return a

    def resolve(self, statistic, spec):
        return self.alpha * statistic / spec.grid.high, None


def butterfly(row):
    """The normalised Hadamard transform of one block, by sums and differences."""
    row, half = np.float64(row), 1
    while half < len(row):
        for start in range(0, len(row), 2 * half):
            a, b = row[start : start + half].copy(), row[start + half : start + 2 * half].copy()
            row[start : start + half], row[start + half : start + 2 * half] = a + b, a - b
        half *= 2
    return row / np.sqrt(len(row))


def slow_rotate(x, size):
    """Along the first axis of a matrix, block by block."""
    out = np.empty(x.shape)
    for start in range(0, x.shape[0], size):
        for column in range(x.shape[1]):
            out[start : start + size, column] = butterfly(x[start : start + size, column])
    return out


@pytest.mark.parametrize("size", [2, 8, 64])
def test_the_matrix_is_orthonormal_and_its_own_inverse(size):
    matrix = np.float64(hadamard_matrix(size))
    np.testing.assert_allclose(matrix @ matrix, np.eye(size), atol=1e-6)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_rotation_against_the_butterfly():
    x = RNG.normal(size=(48, 3)).astype(np.float32)
    found = rotate(jnp.asarray(x), 0, 16)
    np.testing.assert_allclose(found, slow_rotate(x, 16), atol=1e-5)
    np.testing.assert_allclose(rotate(found, 0, 16), x, atol=1e-5)
    image = RNG.normal(size=(2, 3, 3, 8)).astype(np.float32)
    expected = slow_rotate(image.reshape(-1, 8).T, 8).T.reshape(image.shape)
    np.testing.assert_allclose(rotate(jnp.asarray(image), 3, 8), expected, atol=1e-5)


def test_blocks_are_the_largest_powers_of_two():
    assert [largest_block((size,), 0, 128) for size in (1, 2, 48, 128, 512, 100)] == [1, 2, 16, 128, 128, 4]
    with pytest.raises(
        ValueError, match=r"no power of two divides axis 1 of an array of shape \(4, 27\).*hadamard=fal"
    ):
        largest_block((4, 27), 1, 128)


def quantized(x, spec, quantizer, g, contract=(0,)):
    """(x_hat, dx)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=Trust())
    value, pull = jax.vjp(
        jax.jit(lambda x: quantizer.apply(x, {}, rounding, contract=contract, spec=spec)), jnp.asarray(x)
    )
    return np.asarray(value), np.asarray(pull(jnp.asarray(g))[0])


@pytest.mark.parametrize("bits", ALPHA)
@pytest.mark.parametrize("size", [1, 16])
def test_forward_and_gradient_against_the_authors(bits, size):
    """Rotate, clip, round between the levels, mask, rotate back; no gradient through the scale."""
    x, g = (RNG.normal(size=(32, 60)).astype(np.float32) for _ in range(2))
    x[::7] *= 6
    quantizer = QuEST(Table(ALPHA[bits]), hadamard=size > 1, block=16)
    value, dx = quantized(x, QuantSpec(MidRise(bits), Granularity.channel), quantizer, g)

    h = slow_rotate(x, size) if size > 1 else np.float64(x)
    rms = np.sqrt(np.mean(h**2, axis=0, keepdims=True))
    largest, most = ALPHA[bits] * rms, 2**bits - 1
    step = 2 * largest / most
    h_q = np.rint(np.clip(h, -largest, largest) / step + 0.5) * step - step / 2
    mask = np.abs(h_q - h) <= rms * ALPHA[bits] / most * (1 + 1e-6)
    back = functools.partial(slow_rotate, size=size) if size > 1 else np.asarray
    np.testing.assert_allclose(value, back(h_q), atol=2e-5 * np.max(np.abs(x)))
    np.testing.assert_allclose(dx, back(mask * (slow_rotate(g, size) if size > 1 else g)), atol=2e-5)
    assert 0 < np.mean(mask) < 1


def test_the_rotation_spreads_outliers():
    """A column with one large weight: the error of two bits is smaller after the rotation, with the same scale rule."""
    x = RNG.normal(size=(64, 4)).astype(np.float32)
    x[5] = 25
    spec = QuantSpec(MidRise(2), Granularity.channel)
    errors = [
        np.mean((quantized(x, spec, QuEST(Table(ALPHA[2]), hadamard=hadamard), x)[0] - x) ** 2)
        for hadamard in (False, True)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_half_precision_and_an_axis_of_one():
    spec = QuantSpec(MidRise(4), Granularity.channel)
    x = jnp.asarray(RNG.normal(size=(16, 3)), jnp.bfloat16)
    value, dx = quantized(x, spec, QuEST(Table(ALPHA[4])), x)
    assert value.dtype == dx.dtype == jnp.bfloat16
    one = RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)
    plain, rotated = (quantized(one, spec, QuEST(AbsMax(), h), one, contract=(0, 1, 2))[0] for h in (False, True))
    np.testing.assert_array_equal(plain, rotated)


def test_refusals():
    with pytest.raises(ValueError, match=r"^quantizer=quest with grid=.*zero point.*use format=mid_rise"):
        QuEST(AbsMax()).check(QuantSpec(Integer(4, ZeroPoint.integer)))
    with pytest.raises(ValueError, match=r"^block=48 is not a power of two"):
        QuEST(AbsMax(), block=48)
