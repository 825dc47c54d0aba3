"""Learned thresholds against the authors' two staircases: Liu et al., CVPR 2022, arXiv:2111.14826."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.n2uq import N2UQ

SPEC = QuantSpec(Integer(2, signed=False))
X = np.linspace(-0.613, 2.911, 96).reshape(8, 12).astype(np.float32)
G = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
START, WIDTHS, STEP = 0.15, [0.4, 1.1, 0.7], 0.5  # the last piece ends at 2.35


def hard(x, start, widths):
    """How many middles of a piece lie below x."""
    level, left = 0, start
    for width in widths:
        level += x > left + width / 2
        left += width
    return level


def soft(x, start, widths):
    """The line through the pieces, on which the gradient goes."""
    left = start
    for i, width in enumerate(widths):
        if x < left + width:
            return i + max(x - left, 0) / width
        left += width
    return len(widths)


def found(widths, spec=SPEC, quantizer=None):
    """(x_hat, dx, gradients of the numbers)"""
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())
    qparams = {"scale": [[STEP]], "widths": widths, "start": [START]}
    qparams = {name: jnp.asarray(value, jnp.float32) for name, value in qparams.items()}
    quantizer = quantizer or N2UQ(AbsMax(), most_bits=2)

    def rounded(x, qparams):
        return quantizer.apply(x, qparams, rounding, contract=(1,), spec=spec)

    value, pull = jax.vjp(jax.jit(rounded), jnp.asarray(X), qparams)
    return value, *pull(jnp.asarray(G))


def test_forward_against_a_loop():
    value, *_ = found(WIDTHS)
    expected = [[STEP * hard(float(x), START, WIDTHS) for x in row] for row in X]
    np.testing.assert_allclose(value, expected, atol=1e-6)
    assert len(np.unique(expected)) == 4


def test_gradients_against_finite_differences():
    """Of sum g s soft(x) for x, the widths and the start; the output step takes g times the level."""
    _, dx, numbers = found(WIDTHS)

    def total(start, widths):
        return sum(float(g) * STEP * soft(float(x), start, widths) for x, g in zip(X.ravel(), G.ravel(), strict=True))

    def difference(curve, at):
        return (curve(at + 1e-6) - curve(at - 1e-6)) / 2e-6

    expected = [difference(lambda x: soft(x, START, WIDTHS), float(x)) * STEP for x in X.ravel()]
    np.testing.assert_allclose(dx, G * np.reshape(expected, X.shape), rtol=1e-4, atol=1e-6)
    assert numbers["start"][0] == pytest.approx(difference(lambda s: total(s, WIDTHS), START), rel=1e-3)
    for i, width in enumerate(WIDTHS):
        moved = difference(lambda a, i=i: total(START, [*WIDTHS[:i], a, *WIDTHS[i + 1 :]]), width)
        assert numbers["widths"][i] == pytest.approx(moved, rel=1e-3, abs=1e-4)
    levels = np.array([hard(float(x), START, WIDTHS) for x in X.ravel()])
    assert float(numbers["scale"][0, 0]) == pytest.approx(float(np.sum(G.ravel() * levels)), rel=1e-4)


def test_thresholds_beyond_the_bits_play_no_part():
    """Kept for four bits, used by two: also where the bits are traced."""
    spare = [*WIDTHS, *[9.0] * 12]
    expected, traced = found(WIDTHS), jax.tree.map(jnp.int32, SPEC)
    value, dx, numbers = jax.jit(lambda spec: found(spare, spec, N2UQ(AbsMax())))(traced)
    np.testing.assert_allclose(value, expected[0], atol=1e-6)
    np.testing.assert_allclose(dx, expected[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(numbers["widths"][:3], expected[2]["widths"], rtol=1e-4, atol=1e-5)
    assert np.all(numbers["widths"][3:] == 0)


def test_the_start_is_the_uniform_quantizer_of_the_observer():
    x = jnp.abs(jnp.asarray(X))
    quantizer = N2UQ(AbsMax())
    qparams = quantizer.init(AbsMax().measure(x, contract=(1,), spec=SPEC), SPEC)
    assert {name: value.shape for name, value in qparams.items()} == {"scale": (1, 1), "widths": (15,), "start": (1,)}
    rounding = functools.partial(fake_quantize, spec=SPEC, estimator=ClippedStraightThrough())
    value = jax.jit(lambda x: quantizer.apply(x, qparams, rounding, contract=(1,), spec=SPEC))(x)
    np.testing.assert_allclose(value, rounding(x, qparams["scale"], None), atol=1e-6)


def test_a_width_below_zero_is_held_above_it():
    value, dx, numbers = found([0.4, -1.0, 0.7])
    assert all(np.all(np.isfinite(part)) for part in jax.tree.leaves((value, dx, numbers)))
    assert np.all(np.diff(np.ravel(value)) >= 0) and len(np.unique(value)) == 4
    assert numbers["widths"][1] == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (QuantSpec(Integer(2)), r"with grid=int2: its thresholds lead to the codes.*grid.signed=false"),
        (QuantSpec(Integer(2, ZeroPoint.integer, False)), r"with grid=uint2 zero point integer"),
        (QuantSpec(MidRise(2)), r"with grid=mid-rise2"),
        (QuantSpec(Integer(2, signed=False), Granularity.channel), r"with granularity=channel.*set granularity=tensor"),
        (QuantSpec(Integer(5, signed=False)), r"with bits=5: raise its most_bits=4"),
    ],
    ids=["signed", "zero point", "mid-rise", "channel", "bits"],
)
def test_refusals(spec, message):
    with pytest.raises(ValueError, match=rf"^quantizer=n2uq {message}"):
        N2UQ(AbsMax()).check(spec)


def test_most_bits_has_a_range():
    with pytest.raises(ValueError, match=r"^most_bits=9 is outside"):
        N2UQ(AbsMax(), most_bits=9)
