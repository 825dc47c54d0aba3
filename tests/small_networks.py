"""Small quantized networks with random weights, and their graphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.spec import QuantSpec
from qresearch.graph.forms import narrow_forms, whole_biases
from qresearch.graph.ranges import tensor_ranges
from qresearch.graph.trace import trace
from qresearch.grids.integer import Integer
from qresearch.models.cnn import CNN
from qresearch.models.mlp import MLP
from qresearch.models.resnet import ResNet
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.passes.fold_batch_norm import fold_batch_norm
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.static import Static

MODELS = {"mlp": MLP(width=24), "cnn": CNN(width=6), "resnet": ResNet(depth=8)}
SHAPE, CLASSES = (8, 8, 3), 5


def images(count=32, seed=1, shape=SHAPE):
    return jax.random.normal(jax.random.key(seed), (count, *shape))


@functools.cache
def network(name, *, fold=True):
    """A float network in evaluation mode, whose batch norms are not the identity; gains may be negative. It is shared:
    change a copy.
    """
    model = MODELS[name].build(SHAPE, CLASSES, rngs=nnx.Rngs(0))
    model.eval()
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            count = module.scale[...].shape
            module.scale[...] = jnp.asarray(rng.uniform(-0.4, 1.5, count), jnp.float32)
            module.bias[...] = jnp.asarray(rng.normal(0, 0.3, count), jnp.float32)
            module.mean[...] = jnp.asarray(rng.normal(0, 0.3, count), jnp.float32)
            module.var[...] = jnp.asarray(rng.uniform(0.3, 2, count), jnp.float32)
    return fold_batch_norm(model) if fold else model


def assignment(grid, **spec):
    return Assignment(QuantSpec(grid, **spec), Static(AbsMax() if grid.symmetric else MinMax()))


def channel(grid):
    return assignment(grid, granularity="channel")


INT8_RULES = [Rule(".*", channel(Integer(8)), assignment(Integer(8, signed=None)))]


def quantized(model, rules=INT8_RULES, x=None):
    """(the simulated network, its layers), calibrated on the images `x`."""
    x = images() if x is None else x
    layers = geometry(model, (1, *x.shape[1:]))
    rules = assign(list(slots(model)), rules)
    return quantize_model(model, rules, layers, calibrate(model, rules, [x]), ptq=RTN()), layers


def graph_of(model, rules=INT8_RULES, x=None):
    """The graph of the simulated network."""
    x = images() if x is None else x
    return trace(*quantized(model, rules, x), x.shape[1:])


@functools.cache
def int8_graph(name, *, fold=True):
    """The graph of a network at W8A8."""
    return graph_of(network(name, fold=fold))


def narrow(graph, x=None):
    """(the graph with whole biases, a form for each of its tensors) with int8 between the layers."""
    graph = whole_biases(graph)
    return graph, narrow_forms(graph, tensor_ranges(graph, [images() if x is None else x]))
