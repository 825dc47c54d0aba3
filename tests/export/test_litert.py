"""LiteRT files against `integer_network`, by the interpreter's kernels of both kinds.

What the interpreter computes from a file was compared with our integers code by code (ai-edge-litert 2.3.0, x86 with
AVX-512):

    XNNPACK, the default      Requantize.float. XNNPACK makes its factors in float32, and it adds with multipliers of 21
                              bits and rounds ties upwards (`xnnpack_addition`), where a float32 rounds ties to even
    without delegates         Requantize.double_upwards in most layers, double in the others (`rounds_away`) and in
                              means, `BuiltinAddition` in additions; no code differs
    reference kernels         Requantize.double, but for products of matrices, which they rescale in float64

Where a code differs it is by 1 LSB; in a deep network it spreads in the layers that follow.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.export.litert import litert_model
from qresearch.export.litert_file import LiteRTFile, Scaling, litert_metadata, litert_schema
from qresearch.graph.forms import Form, narrow_forms
from qresearch.graph.nodes import INPUT, Add, Graph, Mean, Pad, Relu, Reshape, Slice, Window
from qresearch.graph.ranges import tensor_ranges
from qresearch.graph.rescale import Requantize
from qresearch.graph.steps import SumInFloat
from qresearch.models.cnn import CNN
from qresearch.models.mlp import MLP
from qresearch.models.resnet import ResNet

pytest.importorskip("ai_edge_litert.interpreter", reason="the extra litert is not installed")
from litert_graphs import (
    BUILTIN,
    IMAGES,
    REFERENCE,
    SHAPE,
    XNNPACK,
    Draw,
    check_both_kernels,
    finished,
    float_graph,
    float_model,
    integers,
    lsb,
    network,
    open_file,
    run,
)

FLOAT_LAYERS = ("conv2", "layers.1", "layer2.0.conv1")
NETWORKS = [
    pytest.param(MLP(32, 2), {}, 0, id="MLP W8A8"),
    pytest.param(MLP(32, 2), {"weight": 4, "act": 4}, 0, id="MLP W4A4"),
    pytest.param(MLP(32, 2), {"weight": 2}, 0, id="MLP W2A8"),
    pytest.param(CNN(8), {"fold": False}, 0, id="CNN W8A8, batch norm as gains"),
    pytest.param(CNN(8), {"fold": False, "first": FLOAT_LAYERS}, 0, id="CNN with a float layer"),
    pytest.param(ResNet(8), {}, 0.005, id="ResNet W8A8"),
    pytest.param(ResNet(8), {"weight": 4, "act": 4}, 0.005, id="ResNet W4A4"),
    pytest.param(
        ResNet(8),
        {"weight": 2, "first": FLOAT_LAYERS},
        0.005,
        id="ResNet W2A8 with a float layer",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("build", "choices", "differ"), NETWORKS)
def test_a_network_equals_its_integers(build, choices, differ):
    """W4A4 clips codes of 4 bits, W2A8 in products of matrices is stored in 2 bits; gains have both signs."""
    graph, forms = network(build, **choices)
    logits = check_both_kernels(graph, forms, litert_model(graph, forms, {}), IMAGES, differ)
    assert len(np.unique(logits)) > 50


def test_the_reference_kernels_equal_the_double_rounding_up_to_the_last_layer():
    """Which is a product of matrices, that they rescale in float64."""
    graph, forms = network(ResNet(8))
    (expected,) = integers(graph, forms, IMAGES, Requantize.double)
    apart = lsb(graph, forms, run(litert_model(graph, forms, {}), IMAGES, REFERENCE), expected)
    assert apart.max() <= 1 and np.mean(apart > 0) < 0.01


def test_convolutions_in_four_bits_are_the_same_numbers_in_fewer_bytes():
    graph, forms = network(ResNet(8), weight=4, act=4)
    large, small = (litert_model(graph, forms, {}, int4_convolutions=each) for each in (False, True))
    weights = sum(layer.codes.codes.size for layer in graph.layers if layer.window)
    assert abs(len(large) - len(small) - weights // 2) < 16 * 7  # but for the alignment of each
    np.testing.assert_array_equal(run(small, IMAGES, BUILTIN), run(large, IMAGES, BUILTIN))
    np.testing.assert_array_equal(run(small, IMAGES, REFERENCE), run(large, IMAGES, REFERENCE))


@pytest.mark.parametrize(("build", "fold"), [(MLP(32, 2), True), (ResNet(8), True), (CNN(8), False)], ids=str)
def test_a_float_network(build, fold):
    model = float_model(build, fold)
    content = litert_model(float_graph(build, fold)[0], {}, {})
    expected = np.asarray(jax.jit(lambda model, x: model(x))(model, IMAGES))
    for kernels in (XNNPACK, BUILTIN):
        np.testing.assert_allclose(run(content, IMAGES, kernels), expected, rtol=1e-5, atol=1e-5)
    assert {"INT8"}.isdisjoint(kind for _, kind in tensors(content))


@pytest.mark.parametrize("kernels", [XNNPACK, BUILTIN], ids=lambda each: each.name)
@pytest.mark.parametrize("build", [MLP(32, 2), ResNet(8)], ids=str)
def test_a_batch_is_its_images_one_by_one(build, kernels):
    graph, forms = network(build)
    content = litert_model(graph, forms, {})
    one_by_one = np.concatenate([run(content, IMAGES[i : i + 1], kernels) for i in range(5)])
    assert not lsb(graph, forms, run(content, IMAGES[:5], kernels), one_by_one).any()


def tensors(content):
    """(name, type) of every tensor."""
    schema = litert_schema()
    kinds = {value: name for name, value in vars(schema.TensorType).items()}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    return [(tensor.name.decode(), kinds[tensor.type]) for tensor in model.subgraphs[0].tensors]


def test_between_the_first_and_the_last_operator_all_is_integers():
    content = litert_model(*network(ResNet(8)), {})
    assert [name for name, kind in tensors(content) if kind == "FLOAT32"] == ["input", "logits"]
    assert {kind for _, kind in tensors(content)} == {"FLOAT32", "INT8", "INT32"}
    names = [detail["op_name"] for detail in open_file(content, kernels=BUILTIN)._get_ops_details()]
    assert names[0] == "QUANTIZE" and names[-1] == "DEQUANTIZE" and {"QUANTIZE", "DEQUANTIZE"}.isdisjoint(names[1:-1])
    assert names.count("CONV_2D") == 9 and names.count("ADD") == 3  # two of them take every second pixel
    assert "RELU" not in names and "STRIDED_SLICE" not in names


def test_inputs_outputs_and_metadata_are_named():
    said = {"normalisation": "mean 0.5, deviation 0.25 – of each channel", "classes": "10"}
    content = litert_model(*network(MLP(32, 2)), said)
    assert litert_metadata(content) == said
    runner = open_file(content).get_signature_runner("serving_default")
    np.testing.assert_array_equal(runner(input=IMAGES[:3])["logits"], run(content, IMAGES[:3], XNNPACK))
    (detail,) = open_file(content).get_input_details()
    assert detail["shape_signature"].tolist() == [-1, *SHAPE] and detail["dtype"] == np.float32


def test_constants_are_aligned():
    """The schema asks for 16 bytes; kernels read constants where they lie."""
    content = litert_model(*network(MLP(32, 2)), {"a": "b"})
    schema = litert_schema()
    model, start = schema.Model.GetRootAsModel(content, 0), np.frombuffer(content, np.uint8).ctypes.data
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    places = [buffer.DataAsNumpy().ctypes.data - start for buffer in buffers if not buffer.DataIsNone()]
    assert len(places) == 2 * 3 + 1 + 1 and not any(place % 16 for place in places)


def seeds(quick, all_of_them):
    return [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= quick)) for seed in range(all_of_them)]


@pytest.mark.parametrize("seed", seeds(6, 40))
def test_a_convolution_of_any_kind(seed):
    """Strides, dilations, groups, channel by channel, paddings with and without a name in LiteRT, forms of few bits."""
    draw = Draw(seed)
    shape, x = (9, 8, 4), draw.rng.normal(size=(20, 9, 8, 4)).astype(np.float32)
    layer = draw.convolution()
    nodes = [layer, Relu("relu", ("layer",), layer.shape)] if draw.pick(True, False) else [layer]
    graph, forms = finished(shape, nodes, x)
    check_both_kernels(graph, forms, litert_model(graph, forms, {}), x, differ=0.001)  # XNNPACK's factors are float32


@pytest.mark.parametrize("seed", seeds(1, 8))
def test_what_lies_between_layers(seed):
    """A sum and a ReLU that more than one node takes, inputs in forms of their own, slices, paddings, reshapes."""
    draw, shape = Draw(seed), (4, 6, 4)
    x = draw.rng.normal(size=(50, *shape)).astype(np.float32)
    window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    first = draw.layer("first", INPUT, shape, window, (3, 3), channels=4)
    second = draw.layer("second", "relu", shape, window, (3, 3), channels=4)
    flat = 3 * 2 * 8
    nodes = [
        first,
        Relu("relu", ("first",), shape),
        second,
        Add("sum", ("second", "first"), shape),
        Slice("half", ("sum",), (3, 3, 4), (1, 0, 0), (4, 6, 4), (1, 2, 1)),
        Pad("wide", ("half",), (3, 3, 8), ((0, 0), (0, 0), (1, 3))),
        Slice("part", ("wide",), (3, 2, 8), (0, 0, 0), (3, 2, 8), (1, 1, 1)),
        Relu("positive", ("part",), (3, 2, 8)),
        Reshape("flat", ("positive",), (flat,)),
        draw.layer("third", "flat", (flat,), None, (), channels=5, bits=draw.pick(8, 4, 2)),
        Mean("mean", ("wide",), (8,), (0, 1), 9),
        draw.layer("fourth", "mean", (8,), None, (), channels=5),
        Add("logits", ("third", "fourth"), (5,)),
    ]
    graph, forms = finished(shape, nodes, x)
    check_both_kernels(graph, forms, litert_model(graph, forms, {}), x, differ=0.02)


def test_a_channel_of_gain_zero_gives_its_bias():
    draw = Draw(0)
    layer = draw.layer("layer", INPUT, (6,), None, (), channels=4)
    gain, bias = np.array([[1, 0, 1, 0], [0.1, 0.3, -0.2, -0.4]], np.float32)
    layer = dataclasses.replace(layer, gain=gain, bias=bias)
    x = draw.rng.normal(size=(30, 6)).astype(np.float32)
    graph = Graph((6,), (layer,))
    forms = narrow_forms(graph, tensor_ranges(graph, [x]))
    for kernels in (XNNPACK, BUILTIN):
        logits = run(litert_model(graph, forms, {}), x, kernels)
        apart = np.abs(logits[:, 1::2] - layer.bias[1::2])
        assert apart.max() < 0.75 * forms["layer"].scale
        assert logits[:, 0].std() > 0


def xnnpack_addition(codes, forms, out):
    """XNNPACK's int8 addition: whole multipliers below 2^21, one shift to the right that rounds ties upwards."""
    ratios = [np.float32(form.scale) / np.float32(out.scale) for form in forms]
    shift = 20 - int(np.floor(np.log2(max(ratios))))
    total = np.int64(2 ** (shift - 1))
    for each, form, ratio in zip(codes, forms, ratios, strict=True):
        total = total + (each.astype(np.int64) - form.zero_point) * int(np.rint(np.float64(ratio) * 2.0**shift))
    return np.clip((total >> shift) + out.zero_point, -128, 127)


def test_the_additions_of_xnnpack_are_fixed_point():
    """Why a network with additions does not always equal Requantize.float."""
    rng, differ = np.random.default_rng(0), 0
    for _ in range(20):
        scales = rng.uniform(0.01, 0.1, 3).astype(np.float32)
        *forms, out = (Form(float(scale), int(rng.integers(-128, 128)), -128, 127) for scale in scales)
        file = LiteRTFile()
        scalings = [Scaling(np.array(form.scale, np.float32), form.zero_point) for form in (*forms, out)]
        a, b, c = (file.tensor("", "INT8", (100_000,), scaling) for scaling in scalings)
        opened = open_file(added(file, a, b, c))
        codes = rng.integers(-128, 128, (2, 1, 100_000)).astype(np.int8)
        for detail, values in zip(opened.get_input_details(), codes, strict=True):
            opened.set_tensor(detail["index"], values)
        opened.invoke()
        found = opened.get_tensor(c)
        np.testing.assert_array_equal(found, xnnpack_addition(codes, forms, out))
        step = SumInFloat((forms[0], forms[1], out))
        differ += np.sum(found != np.asarray(step(*map(jnp.asarray, codes))))
    assert 0 < differ < 200  # of 2 000 000


def added(file, a, b, c):
    file.operator("ADD", [a, b], c)
    return file.content({"a": a, "b": b}, {"c": c})


@pytest.mark.slow
def test_a_converters_file_gives_the_same_bits():
    """Of the package litert-converter, from StableHLO with the same forms, for a batch of one, for which alone its file
    is right.
    """
    pytest.importorskip("litert_converter", reason="a private package, and no extra")
    from litert_conversion import converted

    graph, forms = network(ResNet(8))
    mine, theirs = litert_model(graph, forms, {}), converted(graph, forms)
    opened = [open_file(each, kernels=BUILTIN)._get_ops_details() for each in (mine, theirs)]
    # It slices by STRIDED_SLICE where ours has a convolution by one pixel.
    names = [{detail["op_name"] for detail in details} for details in opened]
    assert names[1] - names[0] == {"STRIDED_SLICE"} and names[0] <= names[1]
    for image in IMAGES[:20]:
        for kernels in (XNNPACK, BUILTIN):
            np.testing.assert_array_equal(run(mine, image[None], kernels), run(theirs, image[None], kernels))
