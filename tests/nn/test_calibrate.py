"""Calibration: the statistics of what really reaches each layer, whatever the batches are."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import QuantSpec
from qresearch.grids.integer import Integer
from qresearch.nn.calibrate import calibrate, calibration_key, statistics_structure
from qresearch.nn.geometry import geometry
from qresearch.nn.observe import Seen
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mse import MSE
from qresearch.observers.percentile import Percentile
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static

RNG = np.random.default_rng(0)
# Multiples of 1/8: every product and sum below is exact, so no order of adding changes a bit.
X = jnp.asarray(RNG.integers(-16, 17, size=(12, 4)) / 8, jnp.float32).at[5, 0].set(-2.5)  # the lowest, in the middle
KERNEL = (RNG.integers(-8, 9, size=(4, 3)) / 8).astype(np.float32)


class Net(nnx.Module):
    def __init__(self):
        self.first, self.second, self.third = (nnx.Linear(n, 3, rngs=nnx.Rngs(0)) for n in (4, 3, 3))

    def __call__(self, x):
        return self.third(nnx.relu(self.second(nnx.relu(self.first(x)))))


NET = nnx.eval_shape(Net)
nnx.update(NET, jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape), leaf.dtype), nnx.state(NET)))
NET.first.kernel[...] = jnp.asarray(KERNEL)


def rules_for(observer):
    act = Assignment(QuantSpec(Integer(2, signed=None)), Static(observer))
    return assign(list(slots(NET)), [Rule("third"), Rule(".*", act=act)])


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_order_and_number_of_batches_do_not_matter(observer_class):
    rules = rules_for(observer_class())
    whole = calibrate(NET, rules, [X])
    assert list(whole) == ["first", "second"]  # the third keeps its input float
    a, b, c = np.split(X, 3)
    assert_same(calibrate(NET, rules, [a, b, c]), whole)
    assert_same(calibrate(NET, rules, iter([c, a, b])), whole)


def test_the_statistics_are_of_the_inputs():
    found = calibrate(NET, rules_for(AbsMax()), jnp.split(X, 3))
    hidden = np.maximum(np.asarray(X) @ KERNEL, 0)
    for name, inputs in (("first", X), ("second", hidden)):
        assert found[name].observed.largest.item() == np.abs(np.asarray(inputs)).max()
        assert found[name].lowest == inputs.min()


def test_the_model_is_left_as_it_was():
    before = nnx.split(NET)
    calibrate(NET, rules_for(AbsMax()), [X])
    after = nnx.split(NET)
    assert before[0] == after[0] and not jax.tree.leaves(nnx.state(NET, Seen))
    assert_same(before[1], after[1])


def test_without_batches():
    with pytest.raises(ValueError, match=r"^calibrate got no batches; give at least one, for example the first 512"):
        calibrate(NET, rules_for(AbsMax()), [])


def test_without_activations_nothing_runs():
    def batches():
        raise AssertionError("a batch was asked for")
        yield

    assert calibrate(NET, assign(list(slots(NET)), [Rule(".*")]), batches()) == {}


def test_a_scale_that_is_not_stored_asks_for_no_statistic():
    """So batches of unequal sizes do, though each sample has a scale of its own."""
    act = Assignment(QuantSpec(Integer(8), "channel"), Dynamic(AbsMax()))
    rules = assign(list(slots(NET)), [Rule(".*", act=act)])
    statistics = calibrate(NET, rules, [X[:5], X[5:]])
    seen = statistics["first"]
    assert seen.observed is None and seen.lowest == -2.5 and seen.finite


def test_the_structure_of_the_statistics_is_known_before_they_are_taken(observer_class):
    rules = rules_for(observer_class())
    structure = statistics_structure(rules, geometry(NET, X.shape))
    assert structure == jax.tree.structure(calibrate(NET, rules, [X])) and structure.num_leaves > 2
    assert statistics_structure(assign(list(slots(NET)), [Rule(".*")]), geometry(NET, X.shape)).num_leaves == 0


def key_of(observer=AbsMax, quantizer=Static, weight=None, granularity="tensor", bits=2):
    act = Assignment(QuantSpec(Integer(bits, signed=None), granularity), quantizer(observer()))
    return json.dumps(calibration_key(assign(list(slots(NET)), [Rule("third"), Rule(".*", weight=weight, act=act)])))


def test_the_key_sees_what_the_statistics_depend_on():
    """Observers and their numbers, and the specs; the key can be written as JSON."""
    keys = [key_of(), key_of(lambda: Percentile(99.0)), key_of(lambda: Percentile(99.9)), key_of(granularity="channel")]
    keys += [key_of(bits=3), key_of(MSE), key_of(quantizer=Dynamic)]
    assert len(set(keys)) == len(keys)
    weight = Assignment(QuantSpec(Integer(4)), Static(AbsMax()))
    assert key_of() == key_of(weight=weight) == key_of(quantizer=LSQ)  # what weights are, and who learns from there


def test_the_key_of_a_network_without_quantized_inputs_is_empty():
    assert calibration_key(assign(list(slots(NET)), [Rule(".*")])) == []
