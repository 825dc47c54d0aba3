"""From a float model and rules to a quantized one: what changes, what stays, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.granularity import scale_shape
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.estimators.ewgs import EWGS
from qresearch.estimators.tanh import Tanh
from qresearch.grids.integer import Integer, Range
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.nn.calibrate import calibrate
from qresearch.nn.fake_quant import FakeQuant, QParam
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.observers.percentile import Percentile
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 2)), jnp.float32)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (3, 3), strides=2, padding=1, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])

    def __call__(self, x):
        x = nnx.relu(self.conv(x)).mean(axis=(1, 2))
        return self.layers[1](nnx.relu(self.layers[0](x)))


NET, RNG = nnx.eval_shape(Net), np.random.default_rng(1)
nnx.update(NET, jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), leaf.dtype), nnx.state(NET)))
LAYERS = geometry(NET, X.shape)
WEIGHT = Assignment(QuantSpec(Integer(4), Granularity.channel), Static(AbsMax()))
ACT = Assignment(QuantSpec(Integer(4, signed=None)), Static(AbsMax()))
EVERYWHERE = [Rule(".*", weight=WEIGHT, act=ACT)]


def quantized(rules=EVERYWHERE, model=NET, x=X, **options):
    rules = assign(list(LAYERS), rules)
    return quantize_model(model, rules, LAYERS, calibrate(model, rules, [x]), **options)


@jax.jit
def run(model, x):
    return model(x)


def kernels(model):
    return {
        "conv": model.conv.kernel[...],
        "layers.0": model.layers[0].kernel[...],
        "layers.1": model.layers[1].kernel[...],
    }


def paths(model):
    return [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]


def bits_of(rules, bits):
    """The same rule at another width."""

    def widened(side):
        grid = dataclasses.replace(side.spec.grid, bits=bits)
        return dataclasses.replace(side, spec=dataclasses.replace(side.spec, grid=grid))

    (rule,) = rules
    return [dataclasses.replace(rule, weight=widened(rule.weight), act=widened(rule.act))]


def test_ptq_puts_the_weights_on_the_grid():
    model = quantized(ptq=RTN())
    for path, kernel in kernels(NET).items():
        kernel = np.asarray(kernel)
        scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True) / np.float32(7)
        np.testing.assert_allclose(kernels(model)[path], np.round(kernel / scale) * scale, rtol=1e-6, atol=1e-8)


def test_for_training_the_weights_stay_float():
    model = quantized()
    for path, kernel in kernels(NET).items():
        np.testing.assert_array_equal(kernels(model)[path], kernel)
    np.testing.assert_allclose(
        run(model, X), run(quantized(ptq=RTN()), X), rtol=1e-5, atol=1e-5
    )  # and meet the same grid


def test_paths_of_parameters_do_not_change():
    model = quantized()
    assert paths(model) == paths(NET)
    weights = jax.tree.map(lambda value: 2 * value, nnx.state(NET, nnx.Param))
    nnx.update(model, weights)  # a float checkpoint loads
    np.testing.assert_array_equal(model.conv.kernel[...], 2 * NET.conv.kernel[...])
    found = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, QParam))}
    slots = ("conv.conv_general_dilated", "layers.0.dot_general", "layers.1.dot_general")
    assert found == {f"{slot}.{side}.qparams.scale" for slot in slots for side in ("weight", "act")}


@pytest.mark.parametrize("ptq", [None, RTN()])
def test_the_callers_model_is_never_edited(ptq):
    graphdef, state = nnx.split(nnx.clone(NET))
    quantized(ptq=ptq)
    assert nnx.graphdef(NET) == graphdef
    jax.tree.map(np.testing.assert_array_equal, nnx.state(NET), state)


def test_the_sign_is_decided_by_what_reaches_a_layer():
    model = quantized()
    assert model.conv.conv_general_dilated.act.spec.grid.signed is True  # the image
    assert model.layers[1].dot_general.act.spec.grid.signed is False  # behind a ReLU
    hidden = jax.jit(lambda net: nnx.relu(net.layers[0](nnx.relu(net.conv(X)).mean(axis=(1, 2)))))(NET)
    np.testing.assert_allclose(
        model.layers[1].dot_general.act.qparams["scale"][...].item(), hidden.max() / 15, rtol=1e-5
    )


def test_layers_that_a_rule_keeps_float():
    rules = [Rule("conv"), Rule(r"layers\.0", act=ACT), Rule(".*", weight=WEIGHT)]
    model = quantized(rules, ptq=RTN())
    assert model.conv.conv_general_dilated is jax.lax.conv_general_dilated
    first, second = (layer.dot_general for layer in model.layers)
    assert isinstance(first, FakeQuant) and first.weight is None and second.act is None
    np.testing.assert_array_equal(model.layers[0].kernel[...], NET.layers[0].kernel[...])


def test_bit_widths_share_one_trace():
    traces = []

    def evaluate(graphdef, state, x):
        traces.append(graphdef)
        return nnx.merge(graphdef, state)(x)

    compiled = jax.jit(evaluate, static_argnums=0)
    errors, expected = [], np.asarray(run(NET, X))
    for bits in range(8, 1, -1):
        model = quantized(bits_of(EVERYWHERE, bits), ptq=RTN())
        errors.append(np.abs(np.asarray(compiled(*nnx.split(model), X)) - expected).mean() / np.abs(expected).mean())
    assert len(traces) == 1
    assert errors[0] < errors[3] < errors[6] and errors[0] < 0.05


def test_sixteen_bits_are_as_good_as_float():
    np.testing.assert_allclose(run(quantized(bits_of(EVERYWHERE, 16), ptq=RTN()), X), run(NET, X), atol=1e-3)


def test_learned_scales_start_from_the_observer():
    rules = [Rule(".*", weight=Assignment(QuantSpec(Integer(4), Granularity.channel), LSQ(MeanMagnitude())))]
    occupant = quantized(rules).layers[0].dot_general
    expected = 2 * np.abs(NET.layers[0].kernel[...]).mean(axis=0, keepdims=True) / np.sqrt(7)
    np.testing.assert_allclose(occupant.weight.qparams["scale"][...], expected, rtol=1e-6)


@pytest.mark.parametrize("quantizer", [Static(AbsMax()), LSQ(MeanMagnitude()), Dynamic(AbsMax())], ids=repr)
def test_what_ptq_wrote_is_what_the_layer_multiplies(quantizer):
    """A scale taken anew from the rounded weights would be another grid: that is refused, or kept from happening."""
    weight = Assignment(QuantSpec(Integer(3, range=Range.half_step), Granularity.channel), quantizer)
    try:
        model = quantized([Rule(".*", weight=weight)], ptq=RTN())
    except ValueError as error:
        assert not quantizer.stored and "dynamic" in str(error).lower()
    else:
        occupant, kernel = model.layers[0].dot_general, model.layers[0].kernel[...]
        np.testing.assert_allclose(occupant.weight(kernel, (0,)), kernel, rtol=1e-6)


def quantize_with_bad_weights(bad, quantizer):
    model = nnx.clone(NET)
    model.layers[1].kernel[...] = jnp.full((8, 3), bad)
    weight = Assignment(QuantSpec(Integer(2)), quantizer)
    with pytest.raises(ValueError, match=r"\['layers\.1'\] .*not finite.*[Cc]heck the checkpoint"):
        quantized([Rule(r"layers\.1", weight=weight), Rule(".*")], model)


def test_weights_that_are_not_finite(observer_class):
    quantize_with_bad_weights(np.nan, Static(observer_class()))


@pytest.mark.parametrize("quantizer", [Static(AbsMax()), LSQ(MeanMagnitude()), Dynamic(AbsMax())], ids=repr)
def test_weights_that_are_infinite(quantizer):
    quantize_with_bad_weights(np.inf, quantizer)


def quantize_with_bad_inputs(bad, quantizer):
    model = nnx.clone(NET)
    model.layers[0].bias[...] = jnp.full(8, bad)  # what the next layer sees; nothing of its own is bad
    rules = [Rule(r"layers\.1", act=Assignment(QuantSpec(Integer(2)), quantizer)), Rule(".*")]
    with pytest.raises(ValueError, match=r"\['layers\.1'\] .*not finite.*calibration data"):
        quantized(rules, model)


def test_inputs_that_are_not_finite(observer_class):
    quantize_with_bad_inputs(np.nan, Static(observer_class()))


def test_inputs_that_are_infinite():
    quantize_with_bad_inputs(np.inf, Static(AbsMax()))


def test_a_missing_statistic():
    rules = assign(list(LAYERS), EVERYWHERE)
    statistics = calibrate(NET, rules, [X])
    del statistics["layers.0"]
    with pytest.raises(
        ValueError, match=r"^Layer 'layers\.0' quantizes its input and has no statistic; .*calibrate\(\)"
    ):
        quantize_model(NET, rules, LAYERS, statistics)


def test_a_block_that_does_not_fit_names_the_layer():
    weight = Assignment(QuantSpec(Integer(4), Granularity.block, 4), Static(AbsMax()))
    message = r"^Layer 'conv', weight: block_size=4 does not divide axis 2 of an array of shape \(3, 3, 2, 4\); choose"
    with pytest.raises(ValueError, match=message):
        quantized([Rule(".*", weight=weight)])
    model = quantized([Rule("conv"), Rule(".*", weight=weight)])
    shape = scale_shape((8, 3), contract=(0,), spec=weight.spec)
    assert model.layers[1].dot_general.weight.qparams["scale"].shape == shape == (2, 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        [Assignment(QuantSpec(Integer(3)), LSQ(AbsMax()), EWGS(delta)) for delta in (1e-3, 2e-3)],
        [Assignment(QuantSpec(MidRise(bits)), LSQ(AbsMax()), Tanh(float(bits))) for bits in (2, 3)],
        [Assignment(QuantSpec(Integer(3)), Dynamic(Percentile(percentile))) for percentile in (99.0, 99.9)],
        [Assignment(QuantSpec(MiniFloat(x, 2, Special.finite)), Dynamic(AbsMax())) for x in (2, 3)],
    ],
    ids=["estimator", "grid", "observer", "widths of floats"],
)
def test_numbers_are_no_part_of_the_structure(one, other):
    """Two models that differ in numbers alone run one program."""
    first, second = (quantized([Rule(".*", weight=side)]) for side in (one, other))
    assert nnx.split(first)[0] == nnx.split(second)[0]
    numbers = [jax.tree.leaves(nnx.split(model)[1]) for model in (first, second)]
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(*numbers, strict=True))
