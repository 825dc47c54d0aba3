"""ONNX files against the simulation and against our integers, run by ONNX Runtime."""

import collections
import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.granularity import scale_shape
from qresearch.core.qtensor import QTensor
from qresearch.core.rounding import Rounding
from qresearch.core.scaling import Scaling
from qresearch.core.spec import QuantSpec
from qresearch.export.onnx import WeightStorage, onnx_model
from qresearch.graph.forms import narrow_forms, whole_biases, wide_forms
from qresearch.graph.integers import integer_network
from qresearch.graph.nodes import Add, Graph, Layer, Mean, Pad, Reshape, Slice, Window
from qresearch.graph.rescale import Requantize
from qresearch.graph.simulate import simulate
from qresearch.graph.trace import trace
from qresearch.grids.apot import apot
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.nf4 import nf4
from qresearch.grids.powers_of_two import powers_of_two
from qresearch.grids.ternary import Ternary
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

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

NETWORKS = {
    "mlp": (MLP(width=24), (6, 6, 2)),
    "cnn": (CNN(width=8), (8, 8, 3)),
    "resnet": (ResNet(depth=8), (16, 16, 3)),
}
INT8, UINT8 = QuantSpec(Integer(8), granularity="channel"), QuantSpec(Integer(8, signed=None))


def quick_or_slow(quick, *values):
    """The argument of a test, which is a slow one unless it is quick: each compiles programs of its own."""
    return pytest.param(*values, marks=[] if quick else pytest.mark.slow)


def assignment(spec):
    return Assignment(spec, Static(AbsMax() if spec.grid.symmetric else MinMax()))


def images(shape, count=24):
    return np.random.default_rng(5).normal(size=(count, *shape)).astype(np.float32)


def with_norms(model):
    """The model with batch norms as training leaves them; some channels have a negative factor."""
    rng = np.random.default_rng(3)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            shape = module.scale[...].shape
            module.scale[...] = jnp.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, 1, -1], shape), "float32")
            module.bias[...] = jnp.asarray(rng.normal(size=shape) / 4, "float32")
            module.mean[...] = jnp.asarray(rng.normal(size=shape) / 4, "float32")
            module.var[...] = jnp.asarray(rng.uniform(0.5, 2, shape), "float32")
    model.eval()
    return model


TRACED = {}


def traced(name, weight, act, *, fold=True, keep=None):
    """(graph, images) of a network with random weights; layers that `keep` matches stay float."""
    config, shape = NETWORKS[name]
    key, x = (name, str(weight), str(act), fold, keep), images(shape)
    if key not in TRACED:
        model = with_norms(config.build(shape, 5, rngs=nnx.Rngs(0)))
        model = fold_batch_norm(model) if fold else model
        layers = geometry(model, (1, *shape))
        rules = [Rule(".*", assignment(weight), assignment(act))]
        rules = assign(list(slots(model)), [Rule(keep), *rules] if keep else rules)
        quantized = quantize_model(model, rules, layers, calibrate(model, rules, [jnp.asarray(x)]), ptq=RTN())
        TRACED[key] = trace(quantized, layers, shape)
    return TRACED[key], x


def simulated(graph, x, forms=None):
    return jax.jit(lambda x: simulate(graph, x, forms or {})[0])(x)


def in_int8(graph, x):
    """(graph with whole biases, its forms)"""
    ranges = {name: (float(value.min()), float(value.max())) for name, value in simulated(graph, x).items()}
    graph = whole_biases(graph)
    return graph, narrow_forms(graph, ranges)


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


def session(content, path=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if path is not None:
        options.optimized_model_filepath = str(path)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(content, x):
    return session(content).run(["logits"], {"input": channels_first(x)})[0]


def operators(content, tmp_path):
    """How often ONNX Runtime runs each operator."""
    session(content, tmp_path / "optimized.onnx")
    return collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def our_codes(graph, forms, x):
    network = integer_network(graph, forms, Requantize.float)
    return np.asarray(jax.jit(lambda network, x: network(network.encode(x))[0])(network, x), np.int64), network.output


def their_codes(content, x, form):
    return np.round(np.float64(run(content, x)) / form.scale).astype(np.int64) + form.zero_point


def check_codes(graph, forms, x, *, lsb=2, share=0.05, **kwargs):
    """ONNX Runtime's output in codes against ours; the file."""
    content = onnx_model(graph, forms, {}, **kwargs)
    ours, form = our_codes(graph, forms, x)
    ours, theirs = channels_first(ours), their_codes(content, x, form)
    assert ours.std() > 2 and np.abs(ours - theirs).max() <= lsb and np.mean(ours != theirs) <= share
    first, second = np.sort(ours.reshape(len(x), -1), axis=1)[:, :-3:-1].T
    clear = first - second > 2 * np.abs(ours - theirs).max()
    assert clear.mean() > 0.5
    flat = (each.reshape(len(x), -1).argmax(1)[clear] for each in (ours, theirs))
    np.testing.assert_array_equal(*flat)
    return content


def check_values(graph, x, **kwargs):
    """ONNX Runtime's output without forms against the simulation; the file."""
    content = onnx_model(graph, {}, {}, **kwargs)
    ours = np.asarray(simulated(graph, x)[graph.output])
    ours, theirs = channels_first(ours), run(content, x)
    # Scales are multiplied by here and divided by there, so that a value next to a tie may be rounded otherwise.
    equal = np.isclose(theirs, ours, rtol=1e-4, atol=1e-5 * np.abs(ours).max()).reshape(len(x), -1).all(axis=1)
    assert equal.mean() > 0.9
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=0.02 * np.abs(ours).max())
    return content


@pytest.mark.parametrize("name", [quick_or_slow(name != "cnn", name) for name in NETWORKS])
def test_w8a8_in_integers(name, tmp_path):
    graph, x = traced(name, INT8, UINT8)
    content = check_codes(*in_int8(graph, x), x)
    kinds = operators(content, tmp_path)
    products = kinds["QLinearConv"] + kinds["QGemm"]
    assert products == len(graph.layers) and not kinds.keys() & {"Conv", "Gemm", "Add", "Relu", "GlobalAveragePool"}
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1  # the input and the output


@pytest.mark.parametrize("bits", [(4, 8), (4, 4), (2, 2)])
@pytest.mark.parametrize("fold", [True, False])
def test_fewer_bits_and_gains(bits, fold, tmp_path):
    weight = QuantSpec(Integer(bits[0]), granularity="channel")
    graph, x = traced("cnn", weight, QuantSpec(Integer(bits[1], signed=None)), fold=fold)
    assert fold == all((layer.gain == 1).all() for layer in graph.layers)
    content = check_codes(*in_int8(graph, x), x)
    kinds = operators(content, tmp_path)
    assert kinds["QLinearConv"] == 2 and kinds["QGemm"] == 1 and not kinds["Conv"]
    check_values(graph, x)


@pytest.mark.parametrize("fold", [True, False])
def test_without_forms_it_is_the_simulation(fold):
    for name in NETWORKS:
        check_values(*traced(name, INT8, UINT8, fold=fold))


def test_a_float_network_is_a_float_model(tmp_path):
    config, shape = NETWORKS["resnet"]
    model = with_norms(config.build(shape, 5, rngs=nnx.Rngs(0)))
    graph = trace(model, geometry(model, (1, *shape)), shape)
    content = check_values(graph, images(shape))
    assert {node.op_type for node in onnx.load_from_string(content).graph.node} == {
        "Conv", "Relu", "Slice", "Pad", "Add", "GlobalAveragePool", "Flatten", "Gemm",
    }  # fmt: skip


@pytest.mark.parametrize("between", ["int8", "float"])
@pytest.mark.parametrize("keep", ["conv1", "conv2|linear"])
def test_layers_that_a_rule_keeps_float(between, keep):
    graph, x = traced("cnn", INT8, UINT8, keep=keep)
    if between == "float":
        check_values(graph, x)
    else:
        graph, forms = in_int8(graph, x)
        assert ("input" in forms) == (keep != "conv1")
        check_codes(graph, forms, x)


def test_weights_alone():
    graph, x = traced("cnn", QuantSpec(Integer(4), granularity="channel"), UINT8)
    graph = dataclasses.replace(
        graph, nodes=tuple(dataclasses.replace(n, act=None) if isinstance(n, Layer) else n for n in graph.nodes)
    )
    check_values(graph, x)


FLOATS = {
    "e4m3fn": (4, 3, Special.fn),
    "e5m2": (5, 2, Special.ieee),
    "e4m3fnuz": (4, 3, Special.fnuz),
    "e5m2fnuz": (5, 2, Special.fnuz),
}


@pytest.mark.parametrize(
    ("name", "saturate"),
    [("e4m3fn", True), *(quick_or_slow(name == "e5m2", name, False) for name in FLOATS)]
    + [quick_or_slow(False, name, True) for name in FLOATS if name != "e4m3fn"],
)
def test_floats_of_8_bits(name, saturate):
    grid = MiniFloat(*FLOATS[name], saturate)
    graph, x = traced("cnn" if saturate else "mlp", QuantSpec(grid, granularity="channel"), QuantSpec(grid), fold=False)
    content = check_values(graph, x)
    kind = {"e4m3fn": "FLOAT8E4M3FN", "e5m2": "FLOAT8E5M2", "e4m3fnuz": "FLOAT8E4M3FNUZ", "e5m2fnuz": "FLOAT8E5M2FNUZ"}
    (stored,) = (
        t for t in onnx.load_from_string(content).graph.initializer if t.name == f"{graph.layers[-1].name}/weight/codes"
    )
    assert onnx.TensorProto.DataType.Name(stored.data_type) == kind[name]
    found = onnx.numpy_helper.to_array(stored).view(np.uint8)
    np.testing.assert_array_equal(found.T, graph.layers[-1].codes.codes)
    beyond = run(content, 10 * x)
    assert np.isfinite(beyond).all() == saturate
    np.testing.assert_array_equal(np.isfinite(beyond), np.isfinite(simulated(graph, 10 * x)[graph.output]))


WEIGHTS = {
    "int16": (QuantSpec(Integer(16), granularity="channel"), "INT16"),
    "int12": (QuantSpec(Integer(12), granularity="channel"), "INT16"),
    "int8 narrow, one scale": (QuantSpec(Integer(8, range=Range.narrow)), "INT8"),
    "int8 zero point": (QuantSpec(Integer(8, zero_point=ZeroPoint.integer), granularity="channel"), "INT8"),
    "uint8 zero point": (QuantSpec(Integer(8, ZeroPoint.integer, signed=False), granularity="channel"), "UINT8"),
    "int5": (QuantSpec(Integer(5), granularity="channel"), "INT8"),
    "int4": (QuantSpec(Integer(4), granularity="channel"), "INT4"),
    "int3": (QuantSpec(Integer(3), granularity="channel"), "INT4"),
    "uint4 zero point": (QuantSpec(Integer(4, ZeroPoint.integer, signed=False), granularity="channel"), "UINT4"),
    "int2": (QuantSpec(Integer(2), granularity="channel"), "INT2"),
    "uint2 zero point": (QuantSpec(Integer(2, ZeroPoint.integer, signed=False), granularity="channel"), "UINT2"),
    "ternary": (QuantSpec(Ternary(), granularity="channel"), "INT2"),
    "binary": (QuantSpec(Binary(), granularity="channel"), "INT2"),
    "int8 blocks": (QuantSpec(Integer(8), granularity="block", block_size=4), "INT8"),
    "int4 blocks": (QuantSpec(Integer(4), granularity="block", block_size=4), "INT4"),
    "int2 blocks": (QuantSpec(Integer(2), granularity="block", block_size=4), "INT2"),
    "int4 blocks, zero point": (
        QuantSpec(Integer(4, ZeroPoint.integer, signed=False), granularity="block", block_size=(4, 1)), "UINT4"),
}  # fmt: skip


def stored_codes(content, layer, rank):
    """(codes in the layout of the graph, the name of their type)"""
    tensors = {tensor.name: tensor for tensor in onnx.load_from_string(content).graph.initializer}
    stored = tensors[f"{layer}/weight/codes"]
    codes = onnx.numpy_helper.to_array(stored).astype(np.int64)
    return np.transpose(codes, (2, 3, 1, 0) if rank == 4 else (1, 0)), onnx.TensorProto.DataType.Name(stored.data_type)


QUICK = ("int16", "uint8 zero point", "int4", "binary", "int2", "int4 blocks, zero point")


@pytest.mark.parametrize("name", [quick_or_slow(name in QUICK, name) for name in WEIGHTS])
def test_weights_are_stored_code_for_code(name, tmp_path):
    spec, kind = WEIGHTS[name]
    graph, x = traced("cnn", spec, UINT8, keep="conv1")
    small, wide = check_values(graph, x), onnx_model(graph, {}, {}, weight_storage=WeightStorage.bytes)
    np.testing.assert_allclose(run(small, x), run(wide, x), rtol=1e-5, atol=1e-6)
    for layer in graph.layers[1:]:
        for content, expected in ((small, kind), (wide, "INT8" if kind.endswith(("2", "4")) else kind)):
            found, stored = stored_codes(content, layer.name, layer.codes.codes.ndim)
            np.testing.assert_array_equal(found, layer.codes.spec.grid.decode(layer.codes.codes))
            assert stored == expected
    if "blocks" in name:
        forms = in_int8(traced("cnn", INT8, UINT8, keep="conv1")[0], x)[1]
        assert np.isfinite(run(onnx_model(graph, forms, {}), x)).all()
    elif "16" not in name and "12" not in name:
        graph, forms = in_int8(graph, x)
        small, wide = check_codes(graph, forms, x), onnx_model(graph, forms, {}, weight_storage="bytes")
        np.testing.assert_array_equal(run(small, x), run(wide, x))
        for kinds in (operators(small, tmp_path), operators(wide, tmp_path)):
            assert kinds["QLinearConv"] == kinds["QGemm"] == 1


def test_few_bits_make_small_files():
    def size(bits, **kwargs):
        graph, _ = traced("resnet", QuantSpec(Integer(bits), granularity="channel"), UINT8)
        weights = sum(layer.codes.codes.size for layer in graph.layers)
        return len(onnx_model(graph, {}, {}, **kwargs)) - weights * bits / 8

    rest = size(8)
    assert abs(size(4) - rest) < 600 and abs(size(2) - rest) < 2000  # the names of casts
    assert size(4, weight_storage="bytes") > 30_000


@pytest.mark.parametrize(("bits", "signed"), [(16, None), (12, None), (9, True), (8, True), (5, True), (3, None)])
@pytest.mark.parametrize("between", ["int8", "float"])
def test_inputs_of_other_widths(bits, signed, between):
    graph, x = traced("cnn", INT8, QuantSpec(Integer(bits, signed=signed)))
    if between == "float":
        check_values(graph, 3 * x)  # beyond what was calibrated: it is clipped
    else:
        graph, forms = in_int8(graph, x)
        check_codes(graph, forms, 3 * x)


def test_inputs_with_a_zero_point():
    act = QuantSpec(Integer(8, zero_point=ZeroPoint.integer, signed=None))
    graph, x = traced("cnn", INT8, act)
    assert all(layer.act.zero_point >= 0 for layer in graph.layers) and graph.layers[0].act.zero_point > 0
    check_values(graph, 3 * x)
    check_codes(*in_int8(graph, x), 3 * x)


def quantized_layer(rng, weight_shape, window, out_shape, *, weight=INT8, gain=None, act=None):
    """A layer of random codes, biases and scales."""
    channels, grid = weight_shape[-1], weight.grid
    low, high = {"e4m3fn": (0, 100), "binary": (0, 1)}.get(grid.describe(), (int(grid.low), int(grid.high)))
    low = max(low, -high)  # the opposite of every code is one, too
    codes = rng.integers(low, high + 1, weight_shape).astype(np.asarray(grid.encode(grid.high)).dtype)
    scales = (
        (1,) * len(weight_shape) if weight.granularity == "tensor" else (1,) * (len(weight_shape) - 1) + (channels,)
    )
    scale = rng.uniform(0.5, 2, scales).astype(np.float32) / np.float32(grid.high)
    zero = None if grid.symmetric else rng.integers(low, high + 1, scales).astype(np.float32)
    q = QTensor(jnp.asarray(codes), jnp.asarray(scale), None if zero is None else jnp.asarray(zero), weight)
    act = act or Scaling(QuantSpec(Integer(8)), np.float32(rng.uniform(0.01, 0.03)), np.float32(0))
    bias = rng.normal(size=channels).astype(np.float32)
    gain = np.ones(channels, np.float32) if gain is None else gain
    return Layer("layer", ("input",), out_shape, q, act, bias, gain, window)


def convolution(seed):
    """A graph of one random convolution over one, two or three axes."""
    rng = np.random.default_rng(seed)
    axes = int(rng.choice([1, 2, 2, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 2, 3]))
    inputs, outputs = groups * int(rng.integers(1, 5)), groups * int(rng.integers(1, 5))
    size, kernel = rng.integers(7, 11, axes), rng.integers(1, 4, axes)
    strides, dilation = rng.integers(1, 3, axes), rng.integers(1, 3, axes)
    padding = rng.integers(0, 3, (axes, 2))
    out = (size + padding.sum(1) - dilation * (kernel - 1) - 1) // strides + 1
    plain = [tuple(map(int, each)) for each in (strides, dilation, size, kernel, out)]
    strides, dilation, size, kernel, out = plain
    window = Window(strides, tuple((int(a), int(b)) for a, b in padding), dilation, groups)
    shape = (*size, inputs)
    layer = quantized_layer(rng, (*kernel, inputs // groups, outputs), window, (*out, outputs))
    return Graph(shape, (layer,)), images(shape, 8)


@pytest.mark.parametrize("seed", [quick_or_slow(seed < 5, seed) for seed in range(14)])
def test_one_convolution_at_a_time(seed, tmp_path):
    graph, x = convolution(seed)
    content = check_codes(*in_int8(graph, x), x, lsb=1, share=0.002)
    assert operators(content, tmp_path)["QLinearConv"] == 1
    check_values(graph, x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_matrix_over_the_last_axis(rank, tmp_path):
    rng = np.random.default_rng(rank)
    shape = (3, 5, 12)[3 - rank :]
    graph = Graph(shape, (quantized_layer(rng, (12, 7), None, (*shape[:-1], 7)),))
    content = check_codes(*in_int8(graph, images(shape, 64)), images(shape, 64), lsb=1, share=0.002)
    kinds = operators(content, tmp_path)
    assert kinds["QLinearConv"] + kinds["QGemm"] == 1
    check_values(graph, images(shape))


@pytest.mark.parametrize("weight", [*(name for name in WEIGHTS if "blocks" not in name), "e4m3fn", "full range"])
def test_gains_of_both_signs_and_none(weight):
    """A code whose opposite is not on the grid is stored with a zero point."""
    spec = WEIGHTS[weight][0] if weight in WEIGHTS else QuantSpec(Integer(8), granularity="channel")
    spec = QuantSpec(MiniFloat(4, 3)) if weight == "e4m3fn" else spec
    gain = np.asarray([1.5, -1, 0, -0.25], np.float32)
    graph = Graph((16,), (quantized_layer(np.random.default_rng(3), (16, 4), None, (4,), weight=spec, gain=gain),))
    (layer,) = graph.nodes
    if weight == "full range":
        q = dataclasses.replace(layer.codes, codes=layer.codes.codes.at[:3].set(-128))
        graph = Graph((16,), (dataclasses.replace(layer, weight=q),))
    x = images((16,), 64)
    content = check_values(graph, x)  # the bias of the channel of gain 0 too, which its forms would round to ones
    graph = Graph((16,), (dataclasses.replace(graph.nodes[0], bias=layer.bias * (gain != 0)),))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(content).graph.initializer}
    assert (tensors["layer/weight/zero_point"].astype(np.float32) != 0).any() == (
        weight == "full range" or "zero" in weight
    )
    if weight not in ("e4m3fn", "int16", "int12"):
        check_codes(*in_int8(graph, x), x, lsb=1, share=0.01)


def moves():
    """A layer after each kind of node that moves values about, on 6 x 5 images of 3 channels."""
    rng = np.random.default_rng(0)
    cut = Slice("slice.0", ("input",), (3, 3, 2), (0, 1, 1), (6, 4, 3), (2, 1, 1))
    pad = Pad("pad.0", ("slice.0",), (5, 4, 7), ((1, 1), (0, 1), (2, 3)))
    flat = Reshape("reshape.0", ("pad.0",), (140,))
    square = Reshape("reshape.1", ("reshape.0",), (4, 5, 7))
    layer = quantized_layer(rng, (7, 6), None, (4, 5, 6))
    return Graph((6, 5, 3), (cut, pad, flat, square, dataclasses.replace(layer, inputs=("reshape.1",))))


def test_slices_paddings_and_reshapes(tmp_path):
    """The order of elements is that of the graph, whose channels come last."""
    graph, x = moves(), images((6, 5, 3))
    check_values(graph, x)
    content = check_codes(*in_int8(graph, x), x, lsb=1, share=0.002)
    kinds = operators(content, tmp_path)
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1 and kinds["Pad"] == 1
    wide = Scaling(QuantSpec(Integer(16)), np.float32(1e-3), np.float32(0))
    layer = dataclasses.replace(graph.nodes[-1], act=wide)
    check_values(Graph(graph.shape, (*graph.nodes[:-1], layer)), x)


@pytest.mark.parametrize("axes", [(0, 1), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("between", ["int8", "float"])
def test_means(axes, between):
    rng, shape = np.random.default_rng(0), (6, 5, 3)
    left = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    count = int(np.prod([shape[axis] for axis in axes]))
    layer = quantized_layer(rng, (3, 3), None, shape)
    graph = Graph(shape, (layer, Mean("mean.0", ("layer",), left, axes, count)))
    x = images(shape, 64)
    if between == "float":
        check_values(graph, x)
    else:
        graph, forms = in_int8(graph, x)
        ours, form = our_codes(graph, forms, x)
        theirs = their_codes(onnx_model(graph, forms, {}), x, form)
        assert ours.std() > 2
        assert np.abs(channels_first(ours) - theirs).max() <= 1 and np.mean(channels_first(ours) != theirs) < 0.01


def test_two_layers_that_round_one_tensor_differently():
    rng, graph = np.random.default_rng(0), moves()
    layers = []
    for name, scale in (("a", 0.02), ("b", 0.11)):
        act = Scaling(QuantSpec(Integer(8)), np.float32(scale), np.float32(0))
        layer = quantized_layer(rng, (7, 6), None, (4, 5, 6), act=act)
        layers.append(dataclasses.replace(layer, name=name, inputs=("reshape.1",)))
    total = Add("add.0", ("a", "b"), (4, 5, 6))
    graph = Graph(graph.shape, (*graph.nodes[:-1], *layers, total))
    x = images((6, 5, 3))
    check_values(graph, x)
    check_codes(*in_int8(graph, x), x, share=0.01)


def test_what_the_file_says_of_itself():
    graph, x = traced("cnn", INT8, UINT8)
    graph, forms = in_int8(graph, x)
    content = onnx_model(graph, forms, {"run": "abc", "about": "é"})
    assert content == onnx_model(graph, forms, {"about": "é", "run": "abc"})
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"run": "abc", "about": "é"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)] and model.ir_version == 10
    ends = [*session(content).get_inputs(), *session(content).get_outputs()]
    assert [(end.name, end.shape, end.type) for end in ends] == [
        ("input", ["N", 3, 8, 8], "tensor(float)"),
        ("logits", ["N", 5], "tensor(float)"),
    ]
    np.testing.assert_array_equal(run(content, x)[:1], run(content, x[:1]))


BAD_WEIGHTS = {
    "e2m1": (QuantSpec(MiniFloat(2, 1, Special.finite), granularity="channel"), "e2m1"),
    "e3m2": (QuantSpec(MiniFloat(3, 2, Special.finite), granularity="channel"), "e3m2"),
    "nf4": (QuantSpec(nf4()), r"nf4 \(16 levels\)"),
    "powers of two": (QuantSpec(powers_of_two(4)), r"pot4 \(\d+ levels\)"),
    "apot": (QuantSpec(apot(5)), r"apot5 \(\d+ levels\)"),
    "mid-rise": (QuantSpec(MidRise(4)), "mid-rise4"),
    "float zero point": (
        QuantSpec(Integer(4, zero_point=ZeroPoint.float, signed=False)), "uint4 zero point float"),
    "blocks": (
        QuantSpec(Integer(4), granularity="block", block_size=(4, 4)), r"int4 in blocks along two axes .*\(4, 4\)"),
}  # fmt: skip


def one_layer(weight, act):
    """A graph of one layer whose codes are all 0."""
    shape = scale_shape((8, 8), contract=(0,), spec=weight)
    ones, zero = jnp.ones(shape), None if weight.grid.symmetric else jnp.zeros(shape)
    q = QTensor(jnp.zeros((8, 8), jnp.int8), ones, zero, weight)
    scaling, numbers = Scaling(act, np.float32(1), np.float32(0)), (np.zeros(8, np.float32), np.ones(8, np.float32))
    return Graph((8,), (Layer("block.conv2", ("input",), (8,), q, scaling, *numbers),))


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights_that_onnx_does_not_hold(name):
    spec, grid = BAD_WEIGHTS[name]
    start = rf"The weight of layer 'block.conv2' has the grid {grid}.*, which ONNX does not hold\. ONNX has integers"
    with pytest.raises(ValueError, match=start) as caught:
        onnx_model(one_layer(spec, QuantSpec(Integer(8))), {}, {})
    assert "keep the layer float by a rule, or export a packed file" in str(caught.value)


BAD_INPUTS = {
    "e3m4": (QuantSpec(MiniFloat(3, 4, Special.ieee)), "e3m4"),
    "binary": (QuantSpec(Binary()), "binary"),
    "mid-rise": (QuantSpec(MidRise(4)), "mid-rise4"),
    "float zero point": (QuantSpec(Integer(8, zero_point=ZeroPoint.float, signed=False)), "uint8 zero point float"),
    "floor": (QuantSpec(Integer(8), rounding=Rounding.floor), "int8 with rounding=floor"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_inputs_that_onnx_does_not_hold(name):
    spec, grid = BAD_INPUTS[name]
    start = rf"The input of layer 'block.conv2' has the grid {grid}, which ONNX does not hold\."
    with pytest.raises(ValueError, match=start):
        onnx_model(one_layer(INT8, spec), {}, {})


def test_forms_that_onnx_does_not_hold():
    graph, _ = traced("cnn", INT8, UINT8)
    with pytest.raises(ValueError, match=r"'.*' has integers from -536870912 to .*use export.between=int8 or float32"):
        onnx_model(graph, wide_forms(graph), {})


def test_sums_that_int32_does_not_hold():
    graph, x = traced("mlp", INT8, UINT8)
    graph, forms = in_int8(graph, x)
    layers = [dataclasses.replace(n, bias=n.bias + np.float32(1e6)) if isinstance(n, Layer) else n for n in graph.nodes]
    with pytest.raises(ValueError, match=r"With its bias, layer 'layers.0' sums .*keep it float by a rule"):
        onnx_model(Graph(graph.shape, tuple(layers)), forms, {})


def test_an_unknown_storage():
    graph, _ = traced("mlp", INT8, UINT8)
    with pytest.raises(ValueError, match="'int3' is not a valid WeightStorage"):
        onnx_model(graph, {}, {}, weight_storage="int3")


def test_without_the_package(monkeypatch):
    graph, _ = traced("mlp", INT8, UINT8)
    for name in [name for name in sys.modules if name.startswith("qresearch.export.onnx_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"needs the extra `onnx`.*`make setup EXTRAS=onnx`.*'qresearch\[onnx\]'"):
        onnx_model(graph, {}, {})
