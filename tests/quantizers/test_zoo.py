"""The laws of every quantizer with every observer; a new one of either joins by existing in its folder."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import broadcast_groups, scale_shape
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.qtensor import dequantize, quantize
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.observers.absmax import AbsMax

SPECS = {
    "tensor": QuantSpec(3),
    "block": QuantSpec(3, Granularity.block, 4),
    "channel affine": QuantSpec(3, Granularity.channel, symmetric=False, signed=False),
}
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 2)) * [1, 0.01], jnp.float32)
COTANGENT = jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32)
LAYERS = jnp.stack([X, jnp.zeros_like(X)])  # two layers of one shape; in the second, every group is empty


@pytree_dataclass
class Known:
    """An observer that has seen everything: it gives the scale that another one found, without its cost."""

    scale: Any = leaf()
    zero_point: Any = leaf()

    def measure(self, x, *, contract, spec):
        return ()

    def combine(self, a, b):
        return ()

    def resolve(self, statistic, spec):
        return self.scale, self.zero_point


class Found(NamedTuple):
    """What a quantizer makes of an array."""

    qparams: dict[str, Any]
    scale: jax.Array
    zero_point: jax.Array | None
    rounded: jax.Array
    dx: jax.Array
    dqparams: dict[str, Any]


def quantized(quantizer, x, spec):
    qparams = quantizer.init(quantizer.observer.measure(x, contract=(0,), spec=spec), spec)

    def rounding(x, qparams):
        scale, zero_point = quantizer.scale(x, qparams, contract=(0,), spec=spec)
        return fake_quantize(x, scale, zero_point, spec), (scale, zero_point)

    rounded, pull, (scale, zero_point) = jax.vjp(rounding, x, qparams, has_aux=True)
    return Found(qparams, scale, zero_point, rounded, *pull(COTANGENT))


@jax.jit
def observed(observer, layers, spec):
    return jax.vmap(lambda x: observer.resolve(observer.measure(x, contract=(0,), spec=spec), spec))(layers)


def take(tree, number):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[number]), tree)


@functools.cache
def compute(quantizer_class, observer_class, name):
    """What is found in each layer, or the message of a combination that is refused."""
    try:
        scales = observed(observer_class(), LAYERS, SPECS[name])
        return [quantized(quantizer_class(Known(*take(scales, i))), take(LAYERS, i), SPECS[name]) for i in range(2)]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", SPECS)
def test_laws(quantizer_class, observer_class, name):
    spec, outcome = SPECS[name], compute(quantizer_class, observer_class, name)
    if isinstance(outcome, str):  # a refusal names the choice that does not fit
        assert "symmetric=false" in outcome and not spec.symmetric
        return
    found, empty = outcome
    values_lie_on_the_grid(spec, found)
    dequantize_of_quantize_is_fake_quantize(spec, found)
    rounding_again_changes_nothing(spec, found)
    what_is_stored_is_told(quantizer_class, spec, found)
    learned_numbers_alone_have_a_gradient(quantizer_class, spec, found)
    assert np.all(empty.rounded == 0) and np.all(empty.scale > 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(outcome))
    it_works_around_its_observer(quantizer_class(observer_class()), spec, outcome)


def values_lie_on_the_grid(spec, found):
    scale = np.float64(broadcast_groups(found.scale, X.shape))
    zero_point = 0.0 if found.zero_point is None else np.float64(broadcast_groups(found.zero_point, X.shape))
    codes = np.float64(found.rounded) / scale + zero_point
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-5)
    assert np.round(codes.min()) >= spec.qmin and np.round(codes.max()) <= spec.qmax
    assert len(np.unique(np.round(codes))) > 2


def dequantize_of_quantize_is_fake_quantize(spec, found):
    q = quantize(X, found.scale, found.zero_point, spec)
    np.testing.assert_array_equal(dequantize(q), found.rounded)


def rounding_again_changes_nothing(spec, found):
    again = fake_quantize(found.rounded, found.scale, found.zero_point, spec)
    np.testing.assert_array_equal(again, found.rounded)


def what_is_stored_is_told(quantizer_class, spec, found):
    groups = scale_shape(X.shape, contract=(0,), spec=spec)
    assert found.scale.shape == groups
    assert all(value.shape == groups for value in found.qparams.values())
    assert ("scale" in found.qparams) is quantizer_class.stored


def learned_numbers_alone_have_a_gradient(quantizer_class, spec, found):
    codes = np.asarray(quantize(X, found.scale, found.zero_point, spec).codes)
    inside = (codes > int(spec.qmin)) & (codes < int(spec.qmax))
    straight = np.asarray(found.dx) == np.asarray(COTANGENT)
    assert np.all(straight[inside]) and np.all((np.asarray(found.dx) == 0) | straight)
    for value in found.dqparams.values():
        assert bool(np.any(np.asarray(value) != 0)) is quantizer_class.learned


def it_works_around_its_observer(quantizer, spec, layers):
    """Traced with everything that may be: the width, and a stack of layers."""
    traced = jax.vmap(quantized, in_axes=(None, 0, None))
    found = jax.eval_shape(traced, quantizer, LAYERS, jax.tree.map(jnp.int32, spec))
    expected = jax.tree.map(lambda *leaves: jax.ShapeDtypeStruct((2, *leaves[0].shape), leaves[0].dtype), *layers)
    assert found == expected


@pytest.mark.parametrize("name", SPECS)
def test_jit_and_layers_change_nothing(quantizer_class, name):
    quantizer = quantizer_class(Known(*observed(AbsMax(), LAYERS, SPECS[name])))
    alone = compute(quantizer_class, AbsMax, name)
    if isinstance(alone, str):
        return
    together = jax.jit(jax.vmap(quantized, in_axes=(0, 0, None)))(
        quantizer, LAYERS, jax.tree.map(jnp.int32, SPECS[name])
    )
    for number in range(2):
        for ours, oracle in zip(jax.tree.leaves(together), jax.tree.leaves(alone[number]), strict=True):
            np.testing.assert_allclose(ours[number], oracle, rtol=2e-6, atol=1e-7)  # sums in another order
