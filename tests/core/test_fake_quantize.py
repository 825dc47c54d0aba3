"""The hot path against a slow loop over elements, and its hand-written gradient against what autodiff derives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import MARGIN, fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer, Range, ZeroPoint

STE = ClippedStraightThrough()
GRANULARITIES = [(Granularity.tensor, None), (Granularity.channel, None), (Granularity.block, 4)]
SPECS = [
    QuantSpec(Integer(bits, zero_point, signed, convention), *granularity)
    for granularity, zero_point, (bits, signed, convention) in itertools.product(
        GRANULARITIES, (ZeroPoint.none, ZeroPoint.integer), [(2, True, Range.full), (4, False, Range.narrow)]
    )
]


def name(spec):
    kind = "symmetric" if spec.grid.symmetric else "affine"
    return f"{spec.granularity.value} {kind} {'signed' if spec.grid.signed else 'unsigned'} {spec.grid.bits}"


@pytest.fixture(params=SPECS, ids=name)
def case(request):
    """(x, scale, zero_point, spec): a (12, 5) matrix that is contracted along its first axis; some of it is clipped."""
    spec, rng = request.param, np.random.default_rng(request.param_index)
    x = jnp.asarray(rng.normal(size=(12, 5)), jnp.bfloat16).astype(jnp.float32)
    groups = scale_shape(x.shape, contract=(0,), spec=spec)
    scale = jnp.asarray(rng.uniform(0.2, 0.6, size=groups), jnp.float32)
    zero_point, v = None, x / repeat(scale, x.shape)
    if not spec.grid.symmetric:
        zero_point = jnp.asarray(rng.integers(int(spec.grid.low), int(spec.grid.high) + 1, size=groups), jnp.float32)
        v = v + repeat(zero_point, x.shape)
    # What counts as lying on a bound has tests of its own.
    low, high = spec.grid.low, spec.grid.high
    margin = 2 * MARGIN * (high - low)
    near = ((v > high) & (v < high + margin)) | ((v < low) & (v > low - margin))
    return jnp.where(near, 0.0, x), scale, zero_point, spec


def straight_through(x, scale, zero_point, spec):
    return fake_quantize(x, scale, zero_point, spec, STE)


def slow(x, scale, zero_point, spec):
    """One element at a time, in float32."""
    low, high, out = np.float32(spec.grid.low), np.float32(spec.grid.high), np.empty_like(x)
    for row, column in np.ndindex(x.shape):
        group = row // (x.shape[0] // scale.shape[0]), column // (x.shape[1] // scale.shape[1])
        s, z = scale[group], np.float32(0) if zero_point is None else zero_point[group]
        v = x[row, column] / s + z
        q = np.rint(min(max(v, low), high))  # half to even
        out[row, column] = (q - z) * s
    return out


def repeat(scale, shape):
    for axis, size in enumerate(shape):
        scale = jnp.repeat(scale, size // scale.shape[axis], axis=axis)
    return scale


def autodiff_form(x, scale, zero_point, spec):
    """Straight-through rounding of a clip that counts its bounds as inside; every derivative is JAX's own."""
    s, z = repeat(scale, x.shape), 0.0 if zero_point is None else repeat(zero_point, x.shape)
    v = x.astype(jnp.float32) / s + z
    low, high = spec.grid.low, spec.grid.high
    clipped = jnp.where(v < low, low, jnp.where(v > high, high, v))
    rounded = clipped + jax.lax.stop_gradient(jnp.round(clipped) - clipped)
    return ((rounded - z) * s).astype(x.dtype)


def gradients(function, x, scale, zero_point, spec, cotangent):
    numbers = (x, scale) if zero_point is None else (x, scale, zero_point)

    def rounded(*numbers):
        return function(*(numbers if len(numbers) == 3 else (*numbers, None)), spec)

    return jax.vjp(rounded, *numbers)[1](cotangent)


def test_forward_against_a_loop(case):
    x, scale, zero_point, spec = case
    expected = slow(np.asarray(x), np.asarray(scale), None if zero_point is None else np.asarray(zero_point), spec)
    np.testing.assert_array_equal(straight_through(*case), expected)
    assert np.any(np.abs(expected - x) > scale.max())  # the case does clip


def test_gradient_against_autodiff(case):
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=case[0].shape), jnp.float32)
    fused, derived = gradients(straight_through, *case, cotangent), gradients(autodiff_form, *case, cotangent)
    np.testing.assert_allclose(fused[0], derived[0], rtol=3e-7, atol=0)  # autodiff multiplies by s and divides by it
    for ours, oracle in zip(fused[1:], derived[1:], strict=True):
        # Sums of up to 60 terms, added in another order.
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)
        assert np.any(np.asarray(oracle) != 0)


def test_half_precision(case):
    x, scale, zero_point, spec = case
    x = x.astype(jnp.bfloat16)
    rounded = straight_through(x, scale, zero_point, spec)
    wide = straight_through(x.astype(jnp.float32), scale, zero_point, spec)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rounded, wide.astype(jnp.bfloat16))  # rounded once, at the end
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.bfloat16)
    fused = gradients(straight_through, x, scale, zero_point, spec, cotangent)
    derived = gradients(autodiff_form, x, scale, zero_point, spec, cotangent)
    assert [g.dtype for g in fused] == [jnp.bfloat16, jnp.float32, jnp.float32][: len(fused)]
    np.testing.assert_allclose(fused[0].astype(jnp.float32), derived[0].astype(jnp.float32), rtol=2**-8, atol=0)
    for ours, oracle in zip(fused[1:], derived[1:], strict=True):
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)


def test_the_paper_numbers_of_one_scale():
    """Esser et al. 2020, equation 3, for s = 1 and codes -4..3: the slope is round(x) - x inside, the bound outside."""
    x = jnp.array([-9.0, -4.25, -4.0, -1.75, 0.5, 1.5, 2.75, 3.0, 3.25, 3.75])
    spec, scale = QuantSpec(Integer(3, range=Range.full)), jnp.ones(1)
    slope = jax.jacrev(lambda scale: straight_through(x, scale, None, spec))(scale)[:, 0]
    np.testing.assert_allclose(slope, [-4, -4, 0, -0.25, -0.5, 0.5, 0.25, 0, 3, 3])
    straight = jax.grad(lambda x: straight_through(x, scale, None, spec).sum())(x)
    np.testing.assert_array_equal(straight, [0, 0, 1, 1, 1, 1, 1, 1, 0, 0])


def test_jnp_clip_would_halve_gradients_at_its_bounds():
    """What the form above guards against: the elements that set an absmax scale lie on the bounds."""
    x = jnp.array([-3.0, 1.2, 3.0])
    spec = QuantSpec(Integer(3, range=Range.narrow))
    inclusive = jax.grad(lambda x: straight_through(x, jnp.ones(1), None, spec).sum())(x)
    assert inclusive.tolist() == [1, 1, 1]
    assert jax.grad(lambda x: jnp.clip(x, -3.0, 3.0).sum())(x).tolist() == [0.5, 1, 0.5]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_element_that_sets_the_scale_is_inside(compiled):
    """Also where x / (x / qmax) is rounded to more than qmax, at every width."""
    largest = jnp.asarray(np.random.default_rng(0).lognormal(size=(200, 1)), jnp.float32)
    x = largest * jnp.array([[-1.0, 1.0]])

    def slopes(spec):
        scale = largest / spec.grid.high
        _, pull = jax.vjp(lambda x, scale: straight_through(x, scale, None, spec), x, scale)
        return *pull(jnp.sign(x)), x / scale

    narrow = [QuantSpec(Integer(bits, range=Range.narrow)) for bits in range(2, 17)]
    specs = jax.tree.map(lambda *bits: jnp.array(bits, jnp.int32), *narrow)
    dx, ds, v = (jax.jit if compiled else lambda f: f)(jax.vmap(slopes))(specs)
    qmax = jax.vmap(lambda spec: spec.grid.high)(specs)[:, None, None]
    assert jnp.any(v > qmax)  # so it does happen
    assert jnp.all(dx == jnp.sign(x)[None])
    assert jnp.all(jnp.abs(ds) <= 2.0**-21 * qmax)  # q - v, a rounding error, twice; outside it would be 2 * qmax


def test_beyond_the_bound_is_outside():
    spec, beyond = QuantSpec(Integer(4, range=Range.narrow)), 7 + 2 * 14 * MARGIN
    x = jnp.array([-beyond, beyond, beyond])
    total = jax.grad(lambda x, scale: straight_through(x, scale, None, spec).sum(), argnums=(0, 1))
    dx, ds = total(x, jnp.ones(1))
    assert dx.tolist() == [0, 0, 0] and ds.tolist() == [7]


def test_clip_comes_before_round():
    """In the last half step above qmax both orders give the same value; the other order gives another gradient."""
    x, spec = jnp.array([3.4]), QuantSpec(Integer(3))

    def wrong_order(scale):
        v = x / scale
        rounded = v + jax.lax.stop_gradient(jnp.round(v) - v)
        return jnp.sum(jnp.clip(rounded, spec.grid.low, spec.grid.high) * scale)

    right_order = jax.value_and_grad(lambda scale: straight_through(x, scale, None, spec).sum())
    value, slope = right_order(jnp.ones(1))
    wrong_value, wrong_slope = jax.value_and_grad(wrong_order)(jnp.ones(1))
    assert value == wrong_value == 3.0
    assert slope[0] == 3.0
    assert wrong_slope[0] == pytest.approx(3.0 - 3.4 / 2)


def test_the_grid_takes_no_gradient():
    """Bit-widths are integers: a tree of numbers with a spec in it is still differentiable in the rest."""
    spec = QuantSpec(Integer(jnp.int32(3)))
    gradient = jax.grad(
        lambda numbers: straight_through(numbers["x"], jnp.ones(1), None, numbers["spec"]).sum(), allow_int=True
    )
    found = gradient({"x": jnp.array([1.2, 9.0]), "spec": spec})
    np.testing.assert_array_equal(found["x"], [1, 0])
    assert found["spec"].grid.bits.dtype == jax.dtypes.float0
