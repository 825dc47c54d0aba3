"""Networks on integers: against a loop in numpy's 64-bit integers, and against the simulation."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.integer_form import integers
from qresearch.core.spec import ScaleFormat, ScaleRule
from qresearch.graph.forms import input_form, product_unit, wide_forms
from qresearch.graph.integers import integer_network
from qresearch.graph.nodes import INPUT, Add, Layer, Mean, Pad, Relu, Slice
from qresearch.graph.rescale import Requantize
from qresearch.graph.simulate import simulate
from qresearch.graph.steps import FloatProduct, Product
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.ternary import Ternary
from qresearch.nn.rules import Rule
from small_networks import INT8_RULES, assignment, channel, graph_of, images, int8_graph, narrow, network


def nearest(x, factor):
    """round(x * factor), ties to even, by Python's own integers; factor is a fraction of two of them."""
    top, bottom = float(factor).as_integer_ratio()
    doubled = np.array([2 * int(value) * top + bottom for value in x.reshape(-1)], object)
    up = np.array([value // (2 * bottom) for value in doubled], object)
    tie = np.array([value % (2 * bottom) == 0 for value in doubled])
    return (up - (tie & (up % 2 == 1))).astype(np.int64).reshape(x.shape)


def convolution(x, w, window):
    x = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    (sy, sx), (ky, kx) = window.strides, w.shape[:2]
    rows, columns = (x.shape[1] - ky) // sy + 1, (x.shape[2] - kx) // sx + 1
    out = np.zeros((x.shape[0], rows, columns, w.shape[-1]), np.int64)
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * sy : i * sy + ky, j * sx : j * sx + kx]
            out[:, i, j] = np.tensordot(patch, w, ((1, 2, 3), (0, 1, 2)))
    return out


def by_hand(graph, forms, codes):
    """The network in 64-bit integers; every tensor is rounded once, from the exact value, except for the bias."""
    values = {INPUT: np.asarray(codes, np.int64)}
    for node in graph.nodes:
        ins, out = [forms[name] for name in node.inputs], forms[node.name]
        xs = [values[name] - form.zero_point for name, form in zip(node.inputs, ins, strict=True)]
        match node:
            case Layer():
                taken = input_form(node)
                x = xs[0] if taken == ins[0] else nearest(xs[0], ins[0].scale / taken.scale) + taken.zero_point
                x = x if taken == ins[0] else np.clip(x, taken.low, taken.high) - taken.zero_point
                w = np.asarray(integers(node.codes)[0], np.int64) * np.sign(node.gain).astype(np.int64)
                total = x @ w if node.window is None else convolution(x, w, node.window)
                unit = product_unit(node)
                total = total + np.round(node.bias / unit).astype(np.int64)
                factors = unit / out.scale
                found = np.stack([nearest(total[..., c], factors[c]) for c in range(len(unit))], axis=-1)
            case Relu():
                found = np.maximum(xs[0], 0)
            case Add():
                found = nearest(xs[0], ins[0].scale / out.scale) + nearest(xs[1], ins[1].scale / out.scale)
            case Mean():
                found = nearest(xs[0].sum(axis=(1, 2)), ins[0].scale / out.scale / node.count)
            case Slice():
                found = xs[0][:, :: node.stride[0], :: node.stride[1]]
            case Pad():
                found = np.pad(xs[0], ((0, 0), *node.padding))
            case _:
                found = xs[0].reshape(len(xs[0]), *node.shape)
        values[node.name] = np.clip(found + out.zero_point, out.low, out.high)
    return values


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_a_network_against_a_loop(name):
    """With scales of powers of two the additions of the loop are exact too, so that nothing may differ."""
    scale = {"scale_format": ScaleFormat.power_of_two, "scale_rule": ScaleRule.ceil}
    rules = [Rule(".*", assignment(Integer(8), granularity="channel", **scale), assignment(Integer(8), **scale))]
    graph, _ = narrow(graph_of(network(name), rules))  # for its whole biases
    forms = wide_forms(graph)
    run = integer_network(graph, forms, Requantize.even)
    codes = run.encode(images(4))
    assert codes.dtype == jnp.int8
    found, _ = jax.jit(lambda run, codes: run(codes))(run, codes)
    np.testing.assert_array_equal(found, by_hand(graph, forms, codes)[graph.output])


def both(graph, forms, by=Requantize.even, x=None):
    """(simulated tensors, simulated codes, the network, its output, the codes that reach its layers when each layer
    before has been given the simulation's).
    """
    x = images() if x is None else x
    narrow_mode = all(form.high < 2**16 for form in forms.values())
    values, codes = jax.jit(lambda x: simulate(graph, x, forms if narrow_mode else {}))(x)
    run = integer_network(graph, forms, by)
    out, _ = jax.jit(lambda run, x: run(run.encode(x)))(run, x)
    _, reached = jax.jit(lambda run, x, given: run(run.encode(x), given))(run, x, codes)
    return values, codes, run, out, reached


def apart(codes, reached):
    pairs = [(np.asarray(codes[path], np.int64), np.asarray(reached[path], np.int64)) for path in reached]
    return max(np.mean(a != b) for a, b in pairs), max(np.abs(a - b).max() for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "between", "fold"),
    [("resnet", "int32", True), ("resnet", "int8", False), ("cnn", "int32", False), ("cnn", "int8", True)],
)
def test_it_computes_what_is_simulated(name, between, fold):
    graph = int8_graph(name, fold=fold)
    graph, forms = narrow(graph) if between == "int8" else (graph, wide_forms(graph))
    values, codes, run, out, reached = both(graph, forms)
    share, largest = apart(codes, reached)
    assert share < 0.002 and largest <= (1 if between == "int32" else 2)
    assert set(reached) == {layer.name for layer in graph.layers}
    logits, spread = np.asarray(values[graph.output]), np.std(values[graph.output])
    assert np.abs(run.decode(out) - logits).max() < 0.05 * spread + 2 * run.output.scale
    assert out.dtype == (jnp.int8 if between == "int8" else jnp.int32)


GRIDS = {
    "int2": Integer(2), "ternary": Ternary(), "binary": Binary(), "mid-rise": MidRise(2),
    "zero point": Integer(4, zero_point=ZeroPoint.integer),
}  # fmt: skip
ACTS = {"uint4": Integer(4, signed=None), "int2": Integer(2), "zero point": Integer(8, zero_point=ZeroPoint.integer)}


PAIRS = [
    ("int2", "uint4"),
    ("ternary", "int2"),
    ("mid-rise", "uint4"),
    ("zero point", "zero point"),
    ("binary", "int2"),
]


@pytest.mark.parametrize(("weight", "act"), PAIRS)
def test_every_grid_that_integers_hold(weight, act):
    rules = [Rule(".*", channel(GRIDS[weight]), assignment(ACTS[act]))]
    graph = graph_of(network("mlp"), rules)
    for case, forms in ((graph, wide_forms(graph)), narrow(graph)):
        _, codes, _, _, reached = both(case, forms)
        share, largest = apart(codes, reached)
        assert share < 0.002 and largest <= 1


SOME = ("int32", Requantize.float), ("int8", Requantize.single), ("int8", Requantize.double)
REST = [pair for pair in itertools.product(("int32", "int8"), Requantize) if pair not in SOME]


@pytest.mark.parametrize(("between", "by"), [*SOME, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in REST)])
def test_every_rounding(by, between):
    graph = int8_graph("resnet")
    graph, forms = narrow(graph) if between == "int8" else (graph, wide_forms(graph))
    values, codes, run, out, reached = both(graph, forms, by)
    share, largest = apart(codes, reached)
    # Rounding twice, a mean of few codes is often the neighbour's.
    twice = between == "int8" and by in (Requantize.double, Requantize.double_upwards)
    assert share < (0.4 if twice else 0.002) and largest <= 2
    assert np.abs(run.decode(out) - values[graph.output]).max() < 0.1 * np.std(values[graph.output])


@pytest.mark.parametrize("between", [pytest.param("int32", marks=pytest.mark.slow), "int8"])
def test_there_is_no_float_between_the_codes(between, monkeypatch):
    """As a machine that multiplies int8 runs it; a CPU computes the same sums on float units."""
    graph = int8_graph("resnet", fold=False)
    graph, forms = narrow(graph) if between == "int8" else (graph, wide_forms(graph))
    run = integer_network(graph, forms, Requantize.even)
    codes = run.encode(images(2))
    on_cpu, _ = jax.jit(lambda run, codes: run(codes))(run, codes)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(lambda run, codes: run(codes))(run, codes))
    assert "f32[" not in text and "conv_general_dilated" in text and "i8[" in text
    np.testing.assert_array_equal(jax.jit(lambda run, codes: run(codes))(run, codes)[0], on_cpu)


def test_weights_are_held_in_their_bits():
    graph = graph_of(network("mlp"), [Rule(".*", channel(Integer(3)), assignment(Integer(8)))])
    run = integer_network(graph, wide_forms(graph), Requantize.even)
    steps = [node.step for node in run.nodes if isinstance(node.step, Product)]
    assert [step.weight.words.size for step in steps] == [24 * 8 * 8 * 3 * 3 // 8, 24 * 24 * 3 // 8, 24 * 5 * 3 // 8]
    assert all(step.weight.words.dtype == jnp.uint8 for step in steps)


@pytest.mark.parametrize("between", ["int32", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_layer_that_a_rule_keeps_float(between):
    rules = [Rule("layer2.0.conv2|linear"), *INT8_RULES]
    graph = graph_of(network("resnet"), rules)
    graph, forms = narrow(graph) if between == "int8" else (graph, wide_forms(graph))
    values, codes, run, out, reached = both(graph, forms)
    steps = {node.name: node.step for node in run.nodes}
    assert isinstance(steps["layer2.0.conv2"], FloatProduct) and isinstance(steps["layer2.0.conv1"], Product)
    assert set(reached) == {layer.name for layer in graph.layers} - {"layer2.0.conv2", "linear"}
    assert apart(codes, reached)[0] < 0.002
    assert np.abs(run.decode(out) - values[graph.output]).max() < 0.05 * np.std(values[graph.output])


def test_a_float_first_layer():
    graph = graph_of(network("cnn"), [Rule("conv1"), *INT8_RULES])
    with pytest.raises(ValueError, match=r"input goes into a float layer.*quantize the first layer"):
        wide_forms(graph)
    graph, forms = narrow(graph)
    assert INPUT not in forms
    _, codes, run, _, reached = both(graph, forms)
    np.testing.assert_array_equal(run.encode(images()), images())
    assert apart(codes, reached)[0] < 0.002


@pytest.mark.parametrize("between", ["int32", "int8"])
def test_a_tensor_that_two_layers_round_differently(between):
    """Each of the two takes it in a form of its own."""

    class Fork(nnx.Module):
        def __init__(self):
            self.first, self.wide, self.coarse = (nnx.Linear(8, 8, rngs=nnx.Rngs(seed)) for seed in range(3))

        def __call__(self, x):
            x = nnx.relu(self.first(x))
            return self.wide(x) + self.coarse(x)

    x = images(shape=(8,))
    rules = [Rule("coarse", channel(Integer(8)), assignment(Integer(3, signed=None))), *INT8_RULES]
    graph = graph_of(Fork(), rules, x)
    graph, forms = narrow(graph, x) if between == "int8" else (graph, wide_forms(graph))
    values, codes, run, out, reached = both(graph, forms, x=x)
    assert np.asarray(reached["coarse"]).max() == 7 and np.asarray(reached["wide"]).max() > 200
    assert apart(codes, reached)[0] < 0.01
    assert np.abs(run.decode(out) - values[graph.output]).max() < 0.1 * np.std(values[graph.output])


def with_first(graph, **changes):
    """The graph with another first layer."""
    return dataclasses.replace(graph, nodes=(dataclasses.replace(graph.nodes[0], **changes), *graph.nodes[1:]))


def test_what_int32_may_not_hold_is_an_error():
    rules = [Rule(".*", channel(Integer(16)), assignment(Integer(16)))]
    graph = graph_of(network("cnn"), rules)
    with pytest.raises(ValueError, match=r"conv1.*sums 27 products of magnitudes up to 32768 .*use fewer bits"):
        integer_network(graph, wide_forms(graph), Requantize.even)
    graph = int8_graph("cnn")
    huge = with_first(graph, bias=np.full(6, 1e9, np.float32))
    with pytest.raises(ValueError, match="With its bias, layer 'conv1'"):
        integer_network(huge, wide_forms(graph), Requantize.even)


def test_a_grid_without_integers_is_an_error():
    graph = graph_of(network("cnn"), [Rule(".*", channel(Integer(8)), assignment(Binary()))])
    with pytest.raises(ValueError, match=r"The input of layer '\w+' has the grid binary.*nearest of consecutive ones"):
        wide_forms(graph)
