"""Bytes, operations and energy of a small network, each counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.cost import layer_costs
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.nn.calibrate import calibrate
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static

X = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5, 2)), jnp.float32)


class Net(nnx.Module):
    """Parameters: kernel 3*3*2*4 = 72, batch norm 4 * 4 = 16, kernel 4*6 = 24, bias 6."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.linear = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, x):
        return self.linear(nnx.relu(self.norm(self.conv(x))).mean(axis=(1, 2)))


NET, RNG = nnx.eval_shape(Net), np.random.default_rng(1)
nnx.update(NET, jax.tree.map(lambda leaf: jnp.asarray(RNG.uniform(0.2, 1.0, leaf.shape), leaf.dtype), nnx.state(NET)))
LAYERS = geometry(NET, X.shape)
FLOAT = 4 * (72 + 16 + 24 + 6)


def filled(*rules):
    """A network whose slots are filled by hand: nothing here depends on the scales."""
    model = nnx.clone(NET)
    for path, rule in assign(list(LAYERS), rules).items():
        sides = [
            side and TensorQuantizer(side.spec, side.quantizer, side.estimator, {}, is_act=side is rule.act)
            for side in (rule.weight, rule.act)
        ]
        slot = slots(model)[path]
        slot.fill(FakeQuant(slot.attribute, *sides))
    return model


def quantized(*rules):
    rules = assign(list(LAYERS), rules)
    return quantize_model(NET, rules, LAYERS, calibrate(NET, rules, [X]))


def weights(bits, *granularity):
    return Assignment(QuantSpec(Integer(bits), *granularity), Static(MinMax()))


def affine_weights(bits, *granularity):
    return Assignment(QuantSpec(Integer(bits, ZeroPoint.integer, signed=False), *granularity), Static(MinMax()))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # 72 codes of 3 bits are 27 bytes, 24 of them 9; a scale is 4 bytes, batch norm and bias 88.
        (Rule(".*", weight=weights(3)), 27 + 4 + 9 + 4 + 88),
        (Rule(".*", weight=weights(3, Granularity.channel)), 27 + 4 * 4 + 9 + 6 * 4 + 88),
        (Rule(".*", weight=weights(3, Granularity.block, 2)), 27 + 36 * 4 + 9 + 12 * 4 + 88),
        # 4 and 6 zero points of 3 bits are 2 and 3 bytes.
        (Rule(".*", weight=affine_weights(3, Granularity.channel)), 27 + 16 + 2 + 9 + 24 + 3 + 88),
        # 8 bits: a byte each. Two stored scales of inputs; with a zero point of 8 bits, one byte more each.
        (Rule(".*", weight=weights(8), act=Assignment(QuantSpec(Integer(8)), LSQ(AbsMax()))), 72 + 24 + 4 * 4 + 88),
        (Rule(".*", act=Assignment(QuantSpec(Integer(8, ZeroPoint.integer)), Static(MinMax()))), FLOAT + 2 * 5),
        # Computed at run time, stored nowhere.
        (Rule(".*", act=Assignment(QuantSpec(Integer(8)), Dynamic(AbsMax()))), FLOAT),
    ],
)
def test_bytes(rule, expected):
    model = filled(rule)
    assert quantized_bytes(model, LAYERS) == expected
    assert float_bytes(model) == float_bytes(NET) == FLOAT == quantized_bytes(NET, LAYERS)


def test_a_layer_that_stays_float_is_counted_as_such():
    model = filled(Rule("conv"), Rule("linear", weight=weights(2)))
    assert quantized_bytes(model, LAYERS) == 4 * 72 + 6 + 4 + 88


CONV_MACS, LINEAR_MACS = 5 * 5 * 4 * 18, 4 * 6


def test_operations_and_bytes_of_the_float_network():
    """32 bits on every side: weights, input and output once each."""
    costs = layer_costs(NET, LAYERS)
    assert costs["conv"][:3] == (CONV_MACS, CONV_MACS * 1024, 4 * (72 + 50 + 100))
    assert costs["linear"][:3] == (LINEAR_MACS, LINEAR_MACS * 1024, 4 * (24 + 4 + 6))


def test_operations_and_bytes_of_a_quantized_network():
    act = Assignment(QuantSpec(Integer(8)), Static(AbsMax()))
    model = quantized(Rule("conv", weight=weights(4, Granularity.channel), act=act), Rule("linear", weight=weights(4)))
    costs = layer_costs(model, LAYERS)
    assert costs["conv"][:3] == (CONV_MACS, CONV_MACS * 4 * 8, 36 + 4 * 4 + 50 + 400)
    assert costs["linear"][:3] == (LINEAR_MACS, LINEAR_MACS * 4 * 32, 12 + 4 + 16 + 24)


def test_energy_by_the_table_of_horowitz():
    """ISSCC 2014, 45 nm, in pJ: float32 product 3.7 and sum 0.9, int8 product 0.2, int32 sum 0.1; 64 bits of DRAM 1300
    to 2600.
    """
    act = Assignment(QuantSpec(Integer(8)), Static(AbsMax()))
    model = filled(Rule("conv", weight=weights(8), act=act), Rule("linear", weight=weights(4)))
    costs = layer_costs(model, LAYERS)
    assert costs["conv"].energy_arithmetic_uj_estimate == pytest.approx(CONV_MACS * 0.3e-6)
    assert costs["conv"].energy_memory_uj_estimate == pytest.approx((72 + 4 + 50 + 400) * 1.95e-3 / 8)
    assert costs["linear"].energy_arithmetic_uj_estimate == pytest.approx(LINEAR_MACS * 4.6e-6)  # its input is float
    half = filled(Rule("conv", weight=weights(4), act=act), Rule("linear"))
    assert layer_costs(half, LAYERS)["conv"].energy_arithmetic_uj_estimate == pytest.approx(CONV_MACS * 0.2e-6)


def test_the_audit_says_what_each_side_is():
    act = Assignment(QuantSpec(Integer(8, signed=None)), LSQ(AbsMax()))
    weight = affine_weights(3, Granularity.block, 2)
    scaling = {"scale": "float32", "rounding": "half_even"}
    assert audit(quantized(Rule("conv", weight=weight, act=act), Rule(".*"))) == [
        {
            "layer": "conv",
            "tensor": "weight",
            "bits": 3,
            "grid": "uint3 zero point integer",
            "granularity": "block 2",
            **scaling,
            "quantizer": "Static",
            "observer": "MinMax",
            "estimator": "ClippedStraightThrough",
        },
        {
            "layer": "conv",
            "tensor": "input",
            "bits": 8,
            "grid": "int8",  # what calibration decided: this input has values below zero
            "granularity": "tensor",
            **scaling,
            "quantizer": "LSQ",
            "observer": "AbsMax",
            "estimator": "ClippedStraightThrough",
        },
        {"layer": "linear", "tensor": "weight", "bits": None},
        {"layer": "linear", "tensor": "input", "bits": None},
    ]


def test_the_audit_lists_what_stays_float():
    norm = {f"norm.{name}": 4 for name in ("scale", "bias", "mean", "var")}
    everything = {"conv.kernel": 72, "linear.kernel": 24, "linear.bias": 6, **norm}
    assert float_tensors(NET) == everything
    left = float_tensors(
        filled(Rule("conv", weight=weights(4)), Rule(".*", act=Assignment(QuantSpec(Integer(8)), Static(AbsMax()))))
    )
    assert left == {name: size for name, size in everything.items() if name != "conv.kernel"}
