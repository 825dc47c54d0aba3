"""The occupant that executes, against the one that simulates, and against a loop over Python integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.qtensor import dequantize
from qresearch.core.spec import QuantSpec
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.nf4 import nf4
from qresearch.grids.ternary import Ternary
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import geometry
from qresearch.nn.pack_model import pack_model
from qresearch.nn.packed import Packed
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.quest import QuEST
from qresearch.quantizers.static import Static

LAYERS = {
    "Linear": (lambda rngs: nnx.Linear(6, 4, rngs=rngs), (3, 6)),
    "attention query": (lambda rngs: nnx.LinearGeneral(6, (2, 4), rngs=rngs), (2, 3, 6)),
    "attention out": (lambda rngs: nnx.LinearGeneral((2, 4), 6, axis=(-2, -1), rngs=rngs), (2, 3, 2, 4)),
    "strided Conv": (lambda rngs: nnx.Conv(2, 4, (3, 3), strides=2, padding=1, rngs=rngs), (2, 5, 5, 2)),
    "grouped Conv": (lambda rngs: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=rngs), (2, 5, 5, 4)),
}
GRIDS = {
    "int8": Integer(8),
    "int4": Integer(4),
    "int8 zero point": Integer(8, zero_point=ZeroPoint.integer),
    "int2": Integer(2),
    "ternary": Ternary(),
    "binary": Binary(),
    "mid-rise": MidRise(3),
}
UNSIGNED = Integer(8, signed=None)


def quantized(kind="Linear", weight=GRIDS["int8"], act=UNSIGNED, granularity="channel", quantizer=Static, rule=None):
    """(simulated network, its layers, an input) for one layer with a ReLU in front of it."""
    make, shape = LAYERS[kind]
    model = nnx.Sequential(nnx.relu if act is UNSIGNED else lambda x: x, make(nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), shape)
    sides = [QuantSpec(weight, granularity=granularity), QuantSpec(act)]
    observers = [AbsMax() if spec.grid.symmetric else MinMax() for spec in sides]
    rules = rule or [
        Rule(".*", Assignment(sides[0], Static(observers[0])), Assignment(sides[1], quantizer(observers[1])))
    ]
    rules, layers = assign(list(slots(model)), rules), geometry(model, shape)
    return quantize_model(model, rules, layers, calibrate(model, rules, [x]), ptq=RTN()), layers, x


def run(model, x):
    return nnx.jit(lambda model, x: model(x))(model, x)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_it_computes_what_is_simulated(kind, granularity):
    simulated, layers, x = quantized(kind, granularity=granularity)
    executed = pack_model(simulated, layers)
    (slot,) = slots(executed).values()
    assert isinstance(slot.occupant, Packed)
    np.testing.assert_allclose(run(executed, x), run(simulated, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", GRIDS)
@pytest.mark.parametrize("act", ["int8", "int4", "int8 zero point", "unsigned"])
def test_every_grid_with_integers(weight, act):
    act = UNSIGNED if act == "unsigned" else GRIDS[act]
    simulated, layers, x = quantized("strided Conv", GRIDS[weight], act)
    executed = pack_model(simulated, layers)
    np.testing.assert_allclose(run(executed, x), run(simulated, x), rtol=1e-5, atol=1e-5)


def test_the_weights_are_bytes_and_the_product_is_one_of_integers():
    """The kernel itself is not read, and every output is its int32 sum times one factor, to the last bit."""
    simulated, layers, x = quantized("Linear", GRIDS["int4"])
    executed = pack_model(simulated, layers)
    (slot,) = slots(executed).values()
    words, q = slot.occupant.weight.codes.words, slot.occupant.weight.qtensor()
    assert words.dtype == jnp.uint8 and words.size == 6 * 4 // 2
    np.testing.assert_array_equal(dequantize(q), slot.weight[...])
    slot.weight[...] = jnp.full_like(slot.weight[...], jnp.nan)
    inputs = slot.occupant.act.quantize(nnx.relu(x), (1,))
    sums = [
        [sum(int(a) * int(w) for a, w in zip(row, column, strict=True)) for column in np.asarray(q.codes).T]
        for row in np.asarray(inputs.codes)
    ]
    expected = np.array(sums, np.float32) * np.asarray(inputs.scale * q.scale) + np.asarray(slot.layer.bias[...])
    np.testing.assert_allclose(run(executed, x), expected, rtol=1e-6)
    text = str(jax.make_jaxpr(lambda lhs: slot.occupant(lhs, None, (((1,), (0,)), ((), ()))))(x))
    assert "preferred_element_type=float32" in text and slot.occupant.kinds == ("uint8", "int8")


def test_a_scale_for_each_sample():
    act = Assignment(QuantSpec(Integer(8), granularity="channel"), Dynamic(AbsMax()))
    rule = Rule(".*", Assignment(QuantSpec(Integer(4), granularity="channel"), Static(AbsMax())), act)
    for kind in ("Linear", "attention query", "strided Conv"):
        simulated, layers, x = quantized(kind, rule=[rule])
        np.testing.assert_allclose(run(pack_model(simulated, layers), x), run(simulated, x), rtol=1e-5, atol=1e-6)


def with_rule(weight=None, act=None):
    return [Rule(".*", weight, act)]


INT8, STATIC = QuantSpec(Integer(8), granularity="channel"), Static(AbsMax())
ACT = Assignment(QuantSpec(Integer(8)), STATIC)
BLOCKS = QuantSpec(Integer(4), granularity="block", block_size=3)
FLOAT_ZERO = QuantSpec(Integer(4, zero_point=ZeroPoint.float))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            with_rule(Assignment(INT8, STATIC)),
            r"Layer 'layers.1' has a float side.*keep it float by a rule with match=layers.1",
        ),
        (with_rule(None, ACT), r"Layer 'layers.1' has a float side"),
        (with_rule(Assignment(QuantSpec(nf4()), STATIC), ACT), r"weight of layer 'layers.1'.*nf4 .* are unequal"),
        (with_rule(Assignment(BLOCKS, STATIC), ACT), r"blocks of a sum have scales of their own"),
        (
            with_rule(Assignment(FLOAT_ZERO, Static(MinMax())), ACT),
            r"zero point is a float; set grid.zero_point=integer",
        ),
    ],
)
def test_what_has_no_integer_form(rule, message):
    simulated, layers, _ = quantized(rule=rule)
    with pytest.raises(ValueError, match=message):
        pack_model(simulated, layers)


def test_values_that_are_changed_after_rounding_have_no_integer_form():
    model, x = nnx.Sequential(nnx.Linear(64, 8, rngs=nnx.Rngs(0))), jnp.ones((2, 64))
    spec = QuantSpec(Integer(4, range=Range.half_step), granularity="channel")
    rules = assign(list(slots(model)), [Rule(".*", Assignment(spec, QuEST(AbsMax())), ACT)])
    layers = geometry(model, x.shape)
    simulated = quantize_model(model, rules, layers, calibrate(model, rules, [x]))
    with pytest.raises(ValueError, match="QuEST changes values after it has rounded them"):
        pack_model(simulated, layers)


def test_sums_that_int32_may_not_hold():
    wide = Assignment(QuantSpec(Integer(16)), STATIC)
    simulated, layers, _ = quantized(rule=[Rule(".*", wide, wide)])
    with pytest.raises(ValueError, match=r"Layer 'layers.1' sums 6 products.*use fewer bits"):
        pack_model(simulated, layers)


def test_a_layer_that_a_rule_keeps_float_stays_float():
    simulated, layers, x = quantized(rule=[Rule(".*")])
    executed = pack_model(simulated, layers)
    np.testing.assert_array_equal(run(executed, x), run(simulated, x))
    assert not any(isinstance(slot.occupant, Packed) for slot in slots(executed).values())
