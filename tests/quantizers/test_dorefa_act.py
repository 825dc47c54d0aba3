"""DoReFa's activations against the paper: Zhou et al., "DoReFa-Net", 2016, arXiv:1606.06160, equation 11."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dorefa_act import DoReFaAct

POINTS = np.append(np.linspace(-0.73, 1.71, 97), [0.0, 1.0]).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_and_gradients(bits):
    spec = QuantSpec(Integer(bits, signed=False))
    rounding = functools.partial(fake_quantize, spec=spec, estimator=ClippedStraightThrough())

    @jax.jit
    def rounded(x):
        return DoReFaAct(AbsMax()).apply(x, {}, rounding, contract=(1,), spec=spec)

    found, pull = jax.vjp(rounded, jnp.asarray(POINTS.reshape(-1, 1)))
    gradient = np.asarray(pull(jnp.ones_like(found))[0]).ravel()
    for got, slope, x in zip(np.asarray(found).ravel(), gradient, np.float64(POINTS), strict=True):
        steps = 2**bits - 1
        assert got == pytest.approx(np.rint(steps * min(max(x, 0), 1)) / steps, abs=1e-6)
        assert slope == (0 <= x <= 1)


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (Integer(4), "^grid.signed=True: .* set grid.signed=false, or"),
        (MidRise(4), "^grid=mid-rise4: .* format=int"),
        (Integer(4, zero_point=ZeroPoint.float, signed=False), "^grid=.*: .* grid.zero_point=none"),
    ],
)
def test_what_it_refuses(grid, match):
    with pytest.raises(ValueError, match=match):
        DoReFaAct(AbsMax()).check(QuantSpec(grid))


@pytest.mark.parametrize("signed", [False, None])
def test_it_takes_unsigned_integers_and_an_open_sign(signed):
    DoReFaAct(AbsMax()).check(QuantSpec(Integer(4, signed=signed)))
