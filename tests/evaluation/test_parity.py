"""Parity of the simulated network and the one of integers, against counts in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import QuantSpec, ScaleFormat, ScaleRule
from qresearch.evaluation.execution import execute_model
from qresearch.evaluation.parity import parity
from qresearch.grids.integer import Integer
from qresearch.nn.calibrate import calibrate
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.geometry import geometry
from qresearch.nn.pack_model import pack_model
from qresearch.nn.packed import Packed
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.static import Static

IMAGES = np.random.default_rng(0).integers(0, 256, (1203, 12), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, 1203).astype(np.int32)


def normalise(x):
    return jnp.asarray(x, jnp.float32) / 255 - 0.5


def networks(power_of_two=False):
    rngs = nnx.Rngs(0)
    first, second, third = (nnx.Linear(*sizes, rngs=rngs) for sizes in ((12, 16), (16, 16), (16, 4)))
    model = nnx.Sequential(first, nnx.relu, second, third)
    scale = {"scale_format": ScaleFormat.power_of_two, "scale_rule": ScaleRule.ceil} if power_of_two else {}
    weight = Assignment(QuantSpec(Integer(8), granularity="channel", **scale), Static(AbsMax()))
    act = Assignment(QuantSpec(Integer(8, signed=None), **scale), Static(AbsMax()))
    rules, layers = assign(list(slots(model)), [Rule(".*", weight, act)]), geometry(model, (1, 12))
    simulated = quantize_model(model, rules, layers, calibrate(model, rules, [normalise(IMAGES[:64])]), ptq=RTN())
    return simulated, pack_model(simulated, layers), layers


def compared(simulated, executed, layers):
    pair = execute_model(simulated, layers, FakeQuant), execute_model(executed, layers, Packed)
    return parity(*pair, IMAGES, LABELS, normalise)


def test_where_sums_are_exact_the_two_are_equal_code_for_code():
    """Scales of powers of two: no sum of the simulation is rounded."""
    simulated, executed, layers = networks(power_of_two=True)
    found = compared(simulated, executed, layers)
    assert [row["layer"] for row in found["layers"]] == ["layers.0", "layers.2", "layers.3"]
    assert [row["codes"] for row in found["layers"]] == [1203 * 12, 1203 * 16, 1203 * 16]
    for row in found["layers"]:
        assert row["equal"] == row["equal_carried"] == 1.0 and row["largest_lsb"] == row["largest_lsb_carried"] == 0
    assert found["departs"] is None and found["images"] == 1203 and found["agreement"] == 1.0
    logits = np.asarray(jax.jit(lambda m, x: m(x))(simulated, normalise(IMAGES)))
    assert found["top1_simulated"] == found["top1_integer"] == pytest.approx(100 * np.mean(logits.argmax(1) == LABELS))


def test_a_change_is_found_in_its_layer_and_carried_along():
    """One weight of the first layer is another: the second layer's input departs, and only its own counts there."""
    simulated, executed, layers = networks(power_of_two=True)
    occupant = slots(executed)["layers.0"].occupant
    words = np.array(occupant.weight.codes.words)
    words[0] ^= 0x40
    changed = dataclasses.replace(occupant.weight.codes, words=jnp.asarray(words))
    occupant.weight = nnx.data(dataclasses.replace(occupant.weight, codes=changed))
    found = compared(simulated, executed, layers)
    first, second, third = found["layers"]
    assert first["equal"] == first["equal_carried"] == 1.0
    assert found["departs"] == "layers.2" and second["largest_lsb"] > 1
    assert second["equal"] == second["equal_carried"] < 1.0
    assert third["equal"] == 1.0 > third["equal_carried"]

    run = jax.jit(lambda m, x: m(x))
    x = normalise(IMAGES)
    hidden = [np.asarray(run(nnx.Sequential(*model.layers[:2]), x)) for model in (simulated, executed)]
    scale = np.asarray(slots(simulated)["layers.2"].occupant.act.qparams["scale"][...])
    codes = [np.clip(np.round(each / scale), 0, 255) for each in hidden]
    assert second["equal"] == np.mean(codes[0] == codes[1])
    assert second["largest_lsb"] == np.abs(codes[0] - codes[1]).max()
    outputs = [np.asarray(run(model, x)) for model in (simulated, executed)]
    assert found["agreement"] == pytest.approx(np.mean(outputs[0].argmax(1) == outputs[1].argmax(1)))
    assert found["largest_logit_difference"] == pytest.approx(np.abs(outputs[0] - outputs[1]).max(), rel=1e-5)
