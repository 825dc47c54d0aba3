"""The graph that is read out of a network, against the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.qtensor import QTensor
from qresearch.graph.nodes import Layer, Window
from qresearch.graph.simulate import simulate
from qresearch.graph.trace import GraphError, trace
from qresearch.grids.integer import Integer, Range
from qresearch.nn.geometry import geometry
from qresearch.nn.rules import Assignment, Rule
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.quest import QuEST
from small_networks import INT8_RULES, MODELS, assignment, channel, graph_of, images, network, quantized


def output(graph, x):
    return jax.jit(lambda x: simulate(graph, x, {})[0][graph.output])(x)


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_network_is_simulated_to_the_last_bit(name):
    simulated, layers = quantized(network(name))
    graph = trace(simulated, layers, images().shape[1:])
    assert [layer.name for layer in graph.layers] == list(layers)
    np.testing.assert_array_equal(output(graph, images()), jax.jit(lambda m, x: m(x))(simulated, images()))


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_batch_norm_becomes_a_gain_and_a_bias(name):
    simulated, layers = quantized(network(name, fold=False))
    graph = trace(simulated, layers, images().shape[1:])
    assert any((layer.gain < 0).any() for layer in graph.layers)
    assert graph.layers[-1].gain.tolist() == [1] * 5  # the linear layer has no batch norm behind it
    # The factor of a batch norm is rounded elsewhere, so that few codes fall to the other side of a tie.
    found, expected = np.asarray(output(graph, images())), np.asarray(simulated(images()))
    near = np.isclose(found, expected, rtol=1e-4, atol=1e-4)
    assert near.mean() > 0.95 and np.abs(found - expected).max() < 0.02


def test_a_float_network_is_traced_too():
    model = network("resnet")
    graph = trace(model, geometry(model, (1, 8, 8, 3)), (8, 8, 3))
    assert all(isinstance(layer.weight, np.ndarray) and layer.act is None for layer in graph.layers)
    np.testing.assert_array_equal(output(graph, images()), jax.jit(lambda m, x: m(x))(model, images()))


def test_the_nodes_of_a_residual_network():
    graph = graph_of(network("resnet"))
    kinds = [type(node).__name__ for node in graph.nodes]
    block = ["Layer", "Relu", "Layer", "Add", "Relu"]
    halved = ["Layer", "Relu", "Layer", "Slice", "Pad", "Add", "Relu"]
    assert kinds == ["Layer", "Relu", *block, *halved, *halved, "Mean", "Layer"]
    by_name = {node.name: node for node in graph.nodes}
    conv = by_name["layer2.0.conv1"]
    assert conv.window == Window((2, 2), ((1, 1), (1, 1)), (1, 1), 1) and conv.shape == (4, 4, 32)
    assert isinstance(conv.codes, QTensor) and conv.codes.codes.dtype == jnp.int8
    assert by_name["slice.0"].stride == (2, 2, 1) and by_name["slice.0"].inputs == conv.inputs
    assert by_name["pad.0"].padding == ((0, 0), (0, 0), (8, 8))
    assert by_name["add.0"].inputs == ("layer1.0.conv2", "relu.0")
    assert by_name["mean.0"].axes == (0, 1) and by_name["mean.0"].count == 4


def test_windows():
    model = nnx.Sequential(
        nnx.Conv(4, 8, (3, 2), strides=(2, 1), padding=((0, 2), (1, 0)), feature_group_count=2, rngs=nnx.Rngs(0)),
        nnx.Conv(8, 8, (3, 3), padding="SAME", kernel_dilation=2, feature_group_count=8, rngs=nnx.Rngs(1)),
    )
    x = images(shape=(9, 7, 4))
    graph = graph_of(model, x=x)
    assert [layer.window for layer in graph.layers] == [
        Window((2, 1), ((0, 2), (1, 0)), (1, 1), 2),
        Window((1, 1), ((2, 2), (2, 2)), (2, 2), 8),
    ]
    simulated, _ = quantized(model, x=x)
    np.testing.assert_array_equal(output(graph, x), jax.jit(lambda m, x: m(x))(simulated, x))


class Shared(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(self.layer(x))


class Branch(nnx.Module):
    """Uses what the layer gives before its bias, too."""

    def __init__(self):
        self.layer = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))

    def __call__(self, x):
        y = self.layer(x)
        return (y + jnp.ones((1, 3))) + y


LINEAR = lambda: nnx.Linear(3, 3, rngs=nnx.Rngs(0))  # noqa: E731
UNKNOWN = {
    "tanh": (lambda: nnx.Sequential(LINEAR(), jnp.tanh, LINEAR()), "After layer 'layers.0' the network applies tanh"),
    "product": (lambda: nnx.Sequential(LINEAR(), lambda x: x * x), "applies (a product of two activations|square)"),
    "offset": (lambda: nnx.Sequential(LINEAR(), nnx.relu, lambda x: x + jnp.ones((1, 3))), "applies add with numbers"),
    "scaled": (lambda: nnx.Sequential(nnx.relu, lambda x: x * 2.0, LINEAR()), "After layer 'the input'.*mul with"),
    "minimum": (lambda: nnx.Sequential(LINEAR(), nnx.relu6), "applies (min|clamp|a maximum)"),
    "sum": (lambda: nnx.Sequential(LINEAR(), lambda x: jnp.sum(x, axis=1)), "applies a sum"),
    "batch": (lambda: nnx.Sequential(LINEAR(), lambda x: x - jnp.mean(x, axis=0, keepdims=True)), "across the batch"),
    "branch": (Branch, "a layer's output before its bias"),
    "shared": (Shared, "'layer' is called more than once"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_no_graph_says_is_an_error(case):
    make, message = UNKNOWN[case]
    model = make()
    with pytest.raises(GraphError, match=message):
        trace(model, dict.fromkeys(slots(model), geometry(LINEAR(), (1, 3))[""]), (3,))


def test_an_operator_without_an_integer_form_says_the_way_out():
    model = UNKNOWN["tanh"][0]()
    with pytest.raises(GraphError, match=r"no integer form here. Set export.between=float32"):
        trace(model, geometry(model, (1, 3)), (3,))


DYNAMIC = Assignment(assignment(Integer(8)).spec, Dynamic(AbsMax()))
QUEST = Assignment(channel(Integer(4, range=Range.half_step)).spec, QuEST(AbsMax()))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Rule(".*", channel(Integer(8)), DYNAMIC),
            "input of layer 'layers.0' has a scale that Dynamic finds at run time",
        ),
        (Rule(".*", channel(Integer(8)), channel(Integer(8))), "has granularity=channel, and a graph knows one scale"),
        (Rule(".*", QUEST, assignment(Integer(8))), "QuEST changes values after it has rounded them"),
    ],
)
def test_quantizers_that_no_graph_holds(rule, message):
    with pytest.raises(ValueError, match=message):
        graph_of(nnx.Sequential(nnx.Linear(64, 4, rngs=nnx.Rngs(0))), [rule], images(shape=(64,)))


def test_learned_scales_are_read():
    x = images(shape=(6,))
    act = Assignment(assignment(Integer(4)).spec, LSQ(AbsMax()))
    graph = graph_of(nnx.Sequential(nnx.Linear(6, 4, rngs=nnx.Rngs(0))), [Rule(".*", channel(Integer(8)), act)], x)
    (layer,) = graph.layers
    assert isinstance(layer, Layer) and layer.act.spec.grid.bits == 4
    assert layer.act.scale == pytest.approx(float(jnp.max(jnp.abs(x))) / 7, rel=1e-6) and layer.act.zero_point == 0
    assert INT8_RULES[0].weight.spec.grid.bits == 8
