"""A network as parity sees it: from images to logits, with the codes that its layers take on the way.

Four kinds of networks become an `Execution`: flax networks, simulated or packed, and graphs, simulated or on integers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx

from qresearch.core.pytree import pytree_dataclass
from qresearch.graph.forms import Form
from qresearch.graph.integers import IntegerNetwork
from qresearch.graph.nodes import Graph
from qresearch.graph.simulate import simulate
from qresearch.nn.geometry import Geometry
from qresearch.nn.observe import watch_layers
from qresearch.nn.slots import slots


class Pass(NamedTuple):
    """What a batch has led to; `inputs` and `codes` are by the path of the layer."""

    logits: Any
    inputs: Mapping[str, Any]  # of the layers: what another network may be given in place of its own
    codes: Mapping[str, Any]


class Execution(NamedTuple):
    """`run(state, x, given)` is the Pass of the images `x`, where each layer takes the input that is `given` for it
    instead of the one that reaches it; with None, its own.
    """

    run: Callable[[Any, Any, Mapping[str, Any] | None], Pass]
    state: Any
    layers: Sequence[str]  # whose codes it tells


def execute_model(model: nnx.Module, layers: Mapping[str, Geometry], kind: type) -> Execution:
    """A network whose slots hold occupants of a `kind`: FakeQuant or Packed."""
    graphdef, state = nnx.split(model)
    paths = [path for path, slot in slots(model).items() if isinstance(slot.occupant, kind)]

    def run(state, x, given):
        model = nnx.merge(graphdef, state)
        if given is None:
            logits, inputs = watch_layers(model, {path: _Input() for path in paths}, x)
        else:
            logits, inputs = _given(model, {path: given[path] for path in paths}, x)
        acts = {path: slots(model)[path].occupant.act for path in paths}
        codes = {path: acts[path].quantize(inputs[path], layers[path].lhs_axes).codes for path in paths}
        return Pass(logits, inputs, codes)

    return Execution(run, state, paths)


@pytree_dataclass
class _Input:
    """A watch that keeps the input of a layer."""

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        return lhs


def _given(model: nnx.Module, given: Mapping[str, Any], x: Any) -> tuple[Any, dict[str, Any]]:
    """The logits, and what reaches each layer where all layers before it have taken what is given."""
    model, reached = nnx.clone(model), {}

    def in_its_place(path, occupant):
        def call(lhs, *args, **kwargs):
            reached[path] = lhs
            return occupant(given[path], *args, **kwargs)

        return call

    for path, slot in slots(model).items():
        if path in given:
            slot.fill(in_its_place(path, slot.occupant))
    return model(x), reached


def execute_graph(graph: Graph, forms: Mapping[str, Form]) -> Execution:
    """The simulation of a graph; see `simulate`."""

    def run(state, x, given):
        values, codes = simulate(graph, x, forms, given)
        return Pass(values[graph.output], codes, codes)

    return Execution(run, None, [layer.name for layer in graph.layers if layer.on_integers])


def execute_integers(network: IntegerNetwork) -> Execution:
    """A network on integers."""

    def run(network, x, given):
        codes, reached = network(network.encode(x), given)
        return Pass(network.decode(codes), reached, reached)

    return Execution(run, network, [node.name for node in network.nodes if node.is_layer])
