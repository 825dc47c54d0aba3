"""What no LiteRT file is written for, and what the writer needs of the schema."""

import dataclasses
import importlib.metadata
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.qtensor import QTensor
from qresearch.core.spec import QuantSpec
from qresearch.export.litert import litert_model
from qresearch.export.litert_file import OPERATORS, LiteRTFile, litert_schema
from qresearch.graph.forms import Form, whole_biases
from qresearch.graph.nodes import INPUT, Graph, Scaling, Window
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.nf4 import nf4
from qresearch.models.mlp import MLP

pytest.importorskip("ai_edge_litert.interpreter", reason="the extra litert is not installed")
from litert_graphs import Draw, check_both_kernels, finished, network


def one_layer(weight=None, act=None, gain=1.0, window=None, size=()):
    """A graph of one layer, and its forms; what is not given is W8A8."""
    draw = Draw(0)
    shape = (6, 6, 4) if window else (4,)
    layer = draw.layer("hidden.conv", INPUT, shape, window, size, channels=4)
    act = act or QuantSpec(Integer(8))
    taken = Scaling(act, np.float32(0.05), np.float32(0))
    weight = layer.weight if weight is None else weight
    layer = dataclasses.replace(layer, weight=weight, act=taken, gain=np.full(4, gain, np.float32))
    form = Form(0.1, 0, -128, 127)
    return Graph(shape, (layer,)), {INPUT: Form(0.05, 0, -128, 127), "hidden.conv": form}


def quantized_weight(spec, scale=(1, 4), code=1):
    zero_point = None if spec.grid.symmetric else jnp.zeros(scale)
    return QTensor(spec.grid.encode(jnp.full((4, 4), code, jnp.float32)), jnp.full(scale, 0.1), zero_point, spec)


def weight_case(spec, **details):
    return lambda: one_layer(weight=quantized_weight(spec, **details))


HELD = "LiteRT holds weights as integers of at most 8 bits around 0, with one scale for the tensor or for each output"
BAD = {
    "fp8": (weight_case(QuantSpec(MiniFloat(4, 3))), "weight", HELD, "Use format int"),
    "fp4": (weight_case(QuantSpec(MiniFloat(2, 1, Special.finite))), "weight", HELD, "Use format int"),
    "nf4": (weight_case(QuantSpec(nf4())), "weight", HELD, "Use format int"),
    "a weight with a zero point": (
        weight_case(QuantSpec(Integer(8, ZeroPoint.integer))),
        "weight",
        HELD,
        "Set zero_point=none",
    ),
    "blocks": (
        weight_case(QuantSpec(Integer(8), granularity="block", block_size=2), scale=(2, 4)),
        "weight",
        HELD,
        "set granularity=tensor or channel",
    ),
    "scales by input": (
        weight_case(QuantSpec(Integer(8), granularity="channel"), scale=(4, 1)),
        "weight",
        HELD,
        "It has scales of shape (4, 1); set granularity=tensor or channel",
    ),
    "weights of 9 bits": (
        weight_case(QuantSpec(Integer(9), granularity="channel"), code=200),
        "weight",
        HELD,
        "Its integers reach from 0 to 200; use fewer bits",
    ),
    "a negative gain": (
        lambda: one_layer(weight=quantized_weight(QuantSpec(Integer(8), granularity="channel"), code=-128), gain=-1),
        "weight",
        HELD,
        "set range=narrow, or fold the batch norm",
    ),
    "an input of 9 bits": (
        lambda: one_layer(act=QuantSpec(Integer(9))),
        "act",
        "at most 8 bits",
        "Use 8 bits or fewer",
    ),
    "an input of 16 bits": (
        lambda: one_layer(act=QuantSpec(Integer(16))),
        "act",
        "at most 8 bits",
        "Use 8 bits or fewer",
    ),
    "an input in fp8": (lambda: one_layer(act=QuantSpec(MiniFloat(4, 3))), "act", "at most 8 bits", "Use format int"),
    "a float zero point": (
        lambda: one_layer(act=QuantSpec(Integer(8, ZeroPoint.float))),
        "act",
        "a whole zero point",
        "set zero_point=integer or none",
    ),
    "random rounding": (
        lambda: one_layer(act=QuantSpec(Integer(8), rounding="stochastic")),
        "act",
        "at most 8 bits",
        "set rounding=half_even",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_litert_does_not_hold(case):
    build, side, held, way_out = BAD[case]
    graph, forms = build()
    grid = getattr(graph.nodes[0], side).spec.grid
    with pytest.raises(ValueError) as raised:
        litert_model(graph, forms, {})
    said = str(raised.value)
    name = {"weight": "weight", "act": "input"}[side]
    assert said.startswith(f"The {name} of layer 'hidden.conv' is on the grid {grid.describe()}. ")
    assert held in said and way_out in said and said.endswith(", or keep the layer float by a rule.")


def test_a_code_of_minus_128_is_written():
    graph, forms = one_layer(weight=quantized_weight(QuantSpec(Integer(8), granularity="channel"), code=-128))
    x = np.random.default_rng(0).normal(0, 0.02, (50, 4)).astype(np.float32)
    check_both_kernels(whole_biases(graph), forms, litert_model(graph, forms, {}), x)


@pytest.mark.parametrize(
    ("window", "size"),
    [
        (Window((1,), ((0, 0),), (1,), 1), (3,)),
        (Window((1, 1, 1), ((0, 0),) * 3, (1, 1, 1), 1), (1, 1, 1)),
    ],
)
def test_convolutions_along_other_than_two_axes(window, size):
    draw, shape = Draw(0), (*(6,) * len(size), 4)
    layer = draw.layer("conv", INPUT, shape, window, size, channels=4)
    graph, forms = finished(shape, [layer], np.ones((2, *shape), np.float32))
    with pytest.raises(
        ValueError, match=rf"'conv' is a convolution along {len(size)} axes, and LiteRT has those along two"
    ):
        litert_model(graph, forms, {})


def test_an_output_too_fine_for_the_kernels():
    graph, forms = one_layer()
    with pytest.raises(ValueError, match=r"'hidden.conv': one product .* steps of its output, .* less than 256"):
        litert_model(graph, forms | {"hidden.conv": Form(1e-6, 0, -128, 127)}, {})


def test_forms_that_int8_does_not_hold():
    graph, forms = network(MLP(32, 2))
    wide = forms | {graph.output: Form(2.0**-20, 0, -(2**29), 2**29)}
    with pytest.raises(ValueError, match=r"'layers.2' holds integers from -536870912 .* Use the forms of narrow_forms"):
        litert_model(graph, wide, {})
    with pytest.raises(ValueError, match=r"'layers\.2' is quantized and its output has no form; give those of"):
        litert_model(graph, {name: form for name, form in forms.items() if name != graph.output}, {})


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(ValueError, match=r"make setup EXTRAS=litert in a checkout, or pip install 'qresearch\[li"):
        litert_model(*network(MLP(32, 2)), {})


def test_types_that_no_kernel_takes():
    file = LiteRTFile()
    x, y = file.tensor("x", "INT16", (4,)), file.tensor("y", "INT8", (4,))
    with pytest.raises(TypeError, match="RELU with INT16 -> INT8: LiteRT has FLOAT32 -> FLOAT32, INT8 -> INT8"):
        file.operator("RELU", [x], y)


NEEDED = {
    "TensorT": "name type shape shapeSignature buffer quantization",
    "QuantizationParametersT": "scale zeroPoint quantizedDimension",
    "OperatorT": "opcodeIndex inputs outputs builtinOptionsType builtinOptions",
    "OperatorCodeT": "builtinCode deprecatedBuiltinCode version",
    "SubGraphT": "name tensors inputs outputs operators",
    "SignatureDefT": "signatureKey inputs outputs subgraphIndex",
    "TensorMapT": "name tensorIndex",
    "MetadataT": "name buffer",
    "ModelT": "version description subgraphs buffers operatorCodes signatureDefs metadata",
    "Conv2DOptionsT": "padding strideW strideH dilationWFactor dilationHFactor fusedActivationFunction",
    "DepthwiseConv2DOptionsT": "padding strideW strideH dilationWFactor dilationHFactor depthMultiplier",
    "FullyConnectedOptionsT": "fusedActivationFunction keepNumDims",
    "AddOptionsT": "fusedActivationFunction",
    "ReducerOptionsT": "keepDims",
    "ReshapeOptionsT": "newShape",
    "StridedSliceOptionsT": "beginMask endMask",
    "TensorType": "FLOAT32 INT32 INT8 INT4 INT2",
    "Padding": "SAME VALID",
    "ActivationFunctionType": "NONE RELU",
    "BuiltinOperator": " ".join(OPERATORS),
    "BuiltinOptions": " ".join(table for table, _ in OPERATORS.values() if table),
}


def test_the_schema_is_the_one_that_files_are_written_with():
    """It is generated, and said to be stable for readers of files, not for writers in Python."""
    schema, version = litert_schema(), importlib.metadata.version("ai-edge-litert")
    parts = {name: getattr(schema, name, None) for name in NEEDED}
    parts = {name: part() if name.endswith("T") and part else part for name, part in parts.items()}
    missing = [
        f"{name}.{field}"
        for name, fields in NEEDED.items()
        for field in fields.split()
        if not hasattr(parts[name], field)
    ]
    missing += [name for name in ("BufferStart", "BufferAddData", "BufferEnd", "Model") if not hasattr(schema, name)]
    assert not missing, f"ai-edge-litert {version} no longer has {missing}; change qresearch/export/litert_file.py"
    assert version.startswith("2.3."), f"ai-edge-litert {version}: compare the kernels anew, then change this version"
