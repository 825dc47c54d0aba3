"""The anatomy of the error against loops in numpy, on a network of two layers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.evaluation.anatomy import anatomy
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.observers.percentile import Percentile
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.static import Static

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


class Net(nnx.Module):
    def __init__(self):
        self.first, self.second = nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


NET, RNG = nnx.eval_shape(Net), np.random.default_rng(1)
nnx.update(NET, jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), leaf.dtype), nnx.state(NET)))
LAYERS = geometry(NET, (6, 4))
WEIGHT = Assignment(QuantSpec(Integer(3, range=Range.narrow), Granularity.channel), Static(Percentile(80.0)))  # clips
ACT = Assignment(QuantSpec(Integer(4, zero_point=ZeroPoint.integer, signed=False)), Static(MinMax()))


def quantized(rules, **options):
    rules = assign(list(LAYERS), rules)
    return quantize_model(NET, rules, LAYERS, calibrate(NET, rules, [jnp.asarray(X[:4])]), **options)


def rows_of(model, *, trained):
    (rows,) = anatomy([NET], [model], LAYERS, jnp.asarray(X), trained=trained)
    return {(row["layer"], row["tensor"]): row for row in rows}


def compare(x, rounded):
    """The numbers of an error, element by element."""
    pairs = [(float(a), float(b)) for a, b in zip(np.ravel(x), np.ravel(rounded), strict=True)]
    signal, noise = sum(a * a for a, _ in pairs), sum((a - b) ** 2 for a, b in pairs)
    return {
        "mse": noise / len(pairs),
        "sqnr_db": 10 * math.log10(signal / noise),
        "cosine": sum(a * b for a, b in pairs) / math.sqrt(signal * sum(b * b for _, b in pairs)),
        "bias": sum(a - b for a, b in pairs) / len(pairs),
        "max_error": max(abs(a - b) for a, b in pairs),
    }


def tensor_by_loops(x, quantizer, qmin, qmax):
    """(all numbers of one tensor, the tensor rounded)"""
    scale = np.asarray(quantizer.qparams["scale"][...], np.float64)
    zero = 0 * scale
    if "zero_point" in quantizer.qparams:
        zero = np.asarray(quantizer.qparams["zero_point"][...], np.float64)
    rounded, clipped, codes = np.empty(x.shape), np.empty(x.shape), set()
    for index in np.ndindex(x.shape):
        group = tuple(0 if size == 1 else i for i, size in zip(index, scale.shape, strict=True))
        s, z = scale[group], zero[group]
        code = round(min(max(x[index] / s + z, qmin), qmax))
        codes.add(code)
        rounded[index] = (code - z) * s
        clipped[index] = min(max(x[index], (qmin - z) * s), (qmax - z) * s)
    numbers = compare(x, rounded) | {
        "mse_clip": np.mean((x - clipped) ** 2),
        "mse_round": np.mean((clipped - rounded) ** 2),
        "mse_uniform": np.mean(scale**2) / 12,
        "codes_used": len(codes),
        "codes": qmax - qmin + 1,
    }
    return numbers, rounded


def approximately(expected):
    # The bias is a small difference of large sums.
    return {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in expected.items()}


@pytest.mark.parametrize("trained", [False, True])
def test_every_number_against_loops(trained):
    """After PTQ the error is that of the float weights; in training it is that of the weights behind the quantizer."""
    model = quantized([Rule(".*", weight=WEIGHT, act=ACT)], ptq=None if trained else RTN())
    if trained:
        model.first.kernel[...] = 1.3 * model.first.kernel[...]
    rows = rows_of(model, trained=trained)
    assert set(rows) == {(layer, tensor) for layer in ("first", "second") for tensor in ("weight", "input", "output")}
    x, float_x = X, X
    for name in ("first", "second"):
        layer, float_layer = getattr(model, name), getattr(NET, name)
        kernel = np.asarray(layer.kernel if trained else float_layer.kernel)
        weight, rounded_kernel = tensor_by_loops(kernel, layer.dot_general.weight, -3, 3)
        inputs, rounded_x = tensor_by_loops(x, layer.dot_general.act, 0, 15)
        out, float_out = rounded_x @ rounded_kernel, float_x @ np.asarray(float_layer.kernel)
        for tensor, expected in (("weight", weight), ("input", inputs), ("output", compare(float_out, out))):
            assert rows[name, tensor] == {"layer": name, "tensor": tensor, **approximately(expected)}
        x, float_x = (
            np.maximum(out + np.asarray(layer.bias), 0),
            np.maximum(float_out + np.asarray(float_layer.bias), 0),
        )
    clip, rounding = rows["first", "weight"]["mse_clip"], rows["first", "weight"]["mse_round"]
    assert clip > 0 and rows["first", "weight"]["mse"] == pytest.approx(clip + rounding, rel=1e-5)


def test_models_side_by_side_have_the_rows_that_they_have_alone():
    """Four of them, of two float networks and three widths."""
    other = nnx.clone(NET)
    other.first.kernel[...] = 2.0 * other.first.kernel[...] - 0.5
    floats, models = [NET, other, NET, other], []
    for net, bits in zip(floats, (3, 3, 2, 5), strict=True):
        grid = dataclasses.replace(WEIGHT.spec.grid, bits=bits)
        weight = Assignment(dataclasses.replace(WEIGHT.spec, grid=grid), WEIGHT.quantizer)
        rules = assign(list(LAYERS), [Rule(".*", weight=weight, act=ACT)])
        statistics = calibrate(net, rules, [jnp.asarray(X[:4])])
        models.append(quantize_model(net, rules, LAYERS, statistics, ptq=RTN()))
    together = anatomy(floats, models, LAYERS, jnp.asarray(X), trained=False)
    for number, (net, model) in enumerate(zip(floats, models, strict=True)):
        (alone,) = anatomy([net], [model], LAYERS, jnp.asarray(X), trained=False)
        for row, found in zip(alone, together[number], strict=True):
            numbers = {name: value for name, value in row.items() if name not in ("layer", "tensor")}
            assert found == {"layer": row["layer"], "tensor": row["tensor"], **approximately(numbers)}
    weights = [rows[0]["sqnr_db"] for rows in together]
    assert len(set(weights)) == 4 and [rows[0]["codes"] for rows in together] == [7, 7, 3, 31]


def test_an_error_of_nothing_has_no_signal_to_noise_ratio():
    """Infinity is no JSON."""
    on_grid = nnx.clone(NET)
    on_grid.first.kernel[...] = jnp.arange(-7, 13, dtype=jnp.float32).reshape(4, 5).clip(-7, 7) / 8  # the scale is 1/8
    weight = Assignment(QuantSpec(Integer(4)), Static(AbsMax()))
    rules = assign(list(LAYERS), [Rule("first", weight=weight), Rule("second")])
    model = quantize_model(on_grid, rules, LAYERS, {})
    (rows,) = anatomy([on_grid], [model], LAYERS, jnp.asarray(X), trained=False)
    assert len(rows) == 2
    for row in rows:
        assert row["mse"] == row["max_error"] == 0.0 and row["sqnr_db"] is None


class Deep(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(11)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_rows_are_in_the_order_of_the_layers_and_what_stays_float_has_none():
    net = nnx.eval_shape(Deep)
    nnx.update(net, jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), leaf.dtype), nnx.state(net)))
    layers = geometry(net, (1, 2))
    act = Assignment(QuantSpec(Integer(8)), Dynamic(AbsMax()))
    weight = Assignment(QuantSpec(Integer(8)), Static(AbsMax()))
    rules = assign(list(layers), [Rule(r"layers\.2", weight=weight), Rule(r"layers\.10", act=act), Rule(".*")])
    x = jnp.asarray(X[:1, :2])
    model = quantize_model(net, rules, layers, calibrate(net, rules, [x]))
    (rows,) = anatomy([net], [model], layers, x, trained=False)
    found = [(row["layer"], row["tensor"]) for row in rows]
    assert found == [("layers.2", "weight"), ("layers.2", "output"), ("layers.10", "input"), ("layers.10", "output")]
    assert anatomy([net], [net], layers, x, trained=False) == [[]]
    assert anatomy([net, net], [net, net], layers, x, trained=False) == [[], []]


def test_a_fine_grid_has_the_error_of_uniform_noise():
    """Bennett 1948: step^2 / 12; at 8 bits it holds to a few percent."""
    act = Assignment(QuantSpec(Integer(8, range=Range.narrow)), Static(AbsMax()))
    model = quantized([Rule("first", act=act), Rule("second")])
    x = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, size=(2000, 4)) * np.abs(X[:4]).max(), jnp.float32)
    (rows,) = anatomy([NET], [model], LAYERS, x, trained=False)
    (row,) = (row for row in rows if row["tensor"] == "input")
    assert row["mse"] == pytest.approx(row["mse_uniform"], rel=0.05) and row["mse_clip"] < 1e-9
    assert abs(row["bias"]) < 0.02 * math.sqrt(row["mse"]) * 3
    assert row["codes_used"] == 255 == row["codes"]


@pytest.mark.parametrize(
    ("grid", "step"),
    [(Binary(), 2.0), (Integer(4), 1.0), (MidRise(2), 1.0), (MiniFloat(2, 1, Special.finite), None)],
    ids=lambda value: value.describe() if hasattr(value, "describe") else "",
)
def test_steps_and_codes_of_other_grids(grid, step):
    """Uniform noise takes the distance of neighbours, and a float's two zeros are one value."""
    rules = assign(list(LAYERS), [Rule("first", weight=Assignment(QuantSpec(grid), Static(AbsMax()))), Rule("second")])
    model = quantize_model(NET, rules, LAYERS, {})
    ((row, *_),) = anatomy([NET], [model], LAYERS, jnp.asarray(X), trained=False)
    scale = float(np.abs(NET.first.kernel[...]).max() / grid.reach)
    assert row["codes"] == int(grid.count) and 1 < row["codes_used"] <= row["codes"]
    assert row["mse_uniform"] == (None if step is None else pytest.approx((step * scale) ** 2 / 12, rel=1e-5))
