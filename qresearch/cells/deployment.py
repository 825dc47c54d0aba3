"""A quantized network as a graph with a form for each tensor: what is executed on integers, exported and measured."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx

from qresearch.cells.cell import Cell
from qresearch.cells.stages import calibration_batches
from qresearch.evaluation.execution import execute_graph, execute_integers, execute_model
from qresearch.evaluation.parity import parity
from qresearch.graph.forms import Between, Form, narrow_forms, whole_biases, wide_forms
from qresearch.graph.integers import integer_network
from qresearch.graph.nodes import Graph
from qresearch.graph.ranges import tensor_ranges
from qresearch.graph.trace import trace
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.pack_model import pack_model
from qresearch.nn.packed import Packed


class Deployment(NamedTuple):
    graph: Graph
    forms: Mapping[str, Form]


def deploy_narrow(cell: Cell, graph: Graph) -> Deployment:
    """With 8 bits between the layers; their ranges are those of the calibration images.

    Raises ValueError for a network whose quantized layers do not all have an integer form.
    """
    graph = whole_biases(graph)
    return Deployment(graph, narrow_forms(graph, tensor_ranges(graph, calibration_batches(cell))))


def compare_with_integers(cell: Cell, model: nnx.Module) -> dict[str, Any]:
    """The simulated network beside the one that computes with integers, on the test set; see `parity`."""
    images, labels = cell.data.test()
    between, by = cell.cfg.export.between, cell.cfg.export.requantize
    if between == Between.float32:
        packed = pack_model(model, cell.layers)
        pair = execute_model(model, cell.layers, FakeQuant), execute_model(packed, cell.layers, Packed)
    elif between == Between.int32:
        graph = trace(model, cell.layers, cell.data.shape)
        forms = wide_forms(graph)
        pair = execute_graph(graph, {}), execute_integers(integer_network(graph, forms, by))
    else:
        graph, forms = deploy_narrow(cell, trace(model, cell.layers, cell.data.shape))
        pair = execute_graph(graph, forms), execute_integers(integer_network(graph, forms, by))
    rescaled = None if between == Between.float32 else by.value
    return {"between": between.value, "requantize": rescaled, **parity(*pair, images, labels, cell.normalise)}
