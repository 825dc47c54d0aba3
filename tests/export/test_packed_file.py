"""Packed files: every grid and scale format comes back to the bit, its size is the one computed, and what is wrong is
said."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from qresearch.core.qtensor import dequantize
from qresearch.core.spec import QuantSpec, ScaleFormat, ScaleRule
from qresearch.evaluation.size import quantized_bytes
from qresearch.export.packed_file import PackedFileError, read_packed
from qresearch.export.spec_json import spec_from_json, spec_to_json
from qresearch.export.write_packed import packed_content
from qresearch.grids.binary import Binary
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat
from qresearch.grids.nf4 import nf4
from qresearch.grids.ternary import Ternary
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.observers.minmax import MinMax
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.quest import QuEST
from qresearch.quantizers.static import Static
from qresearch.store.record import write_bytes

POWERS = {"scale_format": ScaleFormat.power_of_two, "scale_rule": ScaleRule.ceil}
SPECS = {
    "int8": QuantSpec(Integer(8), granularity="channel"),
    "int3 blocks": QuantSpec(Integer(3), granularity="block", block_size=4),
    "int4 zero point": QuantSpec(Integer(4, zero_point=ZeroPoint.integer), granularity="channel"),
    "int4 float zero point": QuantSpec(Integer(4, zero_point=ZeroPoint.float), granularity="channel"),
    "int2 narrow, powers of two": QuantSpec(Integer(2, range=Range.narrow), granularity="channel", **POWERS),
    "int4 bfloat16": QuantSpec(Integer(4), granularity="channel", scale_format=ScaleFormat.bfloat16),
    "ternary": QuantSpec(Ternary()),
    "binary": QuantSpec(Binary()),
    "mid-rise": QuantSpec(MidRise(3)),
    "nf4": QuantSpec(nf4(), granularity="block", block_size=8),
    "e2m1 in e4m3": QuantSpec(MiniFloat(2, 1), granularity="block", block_size=8, scale_format=ScaleFormat.e4m3),
}


def network(spec, act=None):
    """(quantized network, its layers)"""
    model = nnx.Sequential(nnx.Linear(16, 24, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(24, 4, rngs=nnx.Rngs(1)))
    x = jax.random.normal(jax.random.key(2), (8, 16))
    weight = Assignment(spec, Static(AbsMax() if spec.grid.symmetric else MinMax()))
    act = act or Assignment(QuantSpec(Integer(8, signed=None)), Static(AbsMax()))
    rules, layers = assign(list(slots(model)), [Rule("layers.0", weight, act), Rule(".*")]), geometry(model, (1, 16))
    return quantize_model(model, rules, layers, calibrate(model, rules, [x]), ptq=RTN()), layers


@pytest.mark.parametrize("name", SPECS)
def test_it_comes_back_to_the_bit(name, tmp_path):
    model, layers = network(SPECS[name])
    content = packed_content(model, layers, {"seed": 3})
    write_bytes(tmp_path / "model.safetensors", content)
    assert len(content) == (tmp_path / "model.safetensors").stat().st_size
    about, weights, inputs, floats = read_packed(tmp_path / "model.safetensors")
    occupant, kernel = slots(model)["layers.0"].occupant, slots(model)["layers.0"].weight[...]
    expected, found = occupant.weight.quantize(kernel, (0,)), weights["layers.0"]
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.scale, expected.scale)
    np.testing.assert_array_equal(dequantize(found), dequantize(expected))
    np.testing.assert_array_equal(dequantize(found), kernel)
    assert found.spec.grid.describe() == expected.spec.grid.describe() and about == {"seed": 3}
    assert inputs["layers.0"].scale == occupant.act.qparams["scale"][...].item()
    assert inputs["layers.0"].spec.grid.describe() == "int8" and inputs["layers.0"].zero_point is None
    assert set(floats) == {"layers.0.bias", "layers.2.kernel", "layers.2.bias"}
    np.testing.assert_array_equal(floats["layers.2.kernel"], slots(model)["layers.2"].weight[...])
    assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"]  # nothing half-written beside it


@pytest.mark.parametrize("name", SPECS)
def test_the_file_is_as_large_as_is_computed(name, tmp_path):
    """Levels lie in the metadata, and zero points take a byte where the count is in bits."""
    model, layers = network(SPECS[name])
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed_content(model, layers, {}))
    tensors = sum(value.nbytes for value in safetensors.numpy.load_file(path).values())
    computed = quantized_bytes(model, layers)
    slack = {"int4 zero point": 12}.get(name, 0)
    assert tensors == computed - 4 + slack  # the scale of the input lies in the metadata
    assert path.stat().st_size <= 1.02 * computed + 4000


def test_an_input_whose_scale_is_found_at_run_time(tmp_path):
    act = Assignment(QuantSpec(Integer(8), granularity="channel"), Dynamic(AbsMax()))
    model, layers = network(SPECS["int8"], act)
    (tmp_path / "a").write_bytes(packed_content(model, layers, {}))
    scaling = read_packed(tmp_path / "a").inputs["layers.0"]
    assert scaling.scale is None and scaling.zero_point is None and scaling.spec.granularity == "channel"


@pytest.mark.parametrize("name", SPECS)
def test_specs_are_json(name):
    text = json.dumps(spec_to_json(SPECS[name]))
    found = spec_from_json(json.loads(text))
    assert jax.tree.structure(found) == jax.tree.structure(SPECS[name]) and spec_to_json(found) == json.loads(text)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(SPECS[name]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["os.system", "integer.enum", "integer", "../x.Integer", "integer.Integer.bits"])
def test_nothing_but_a_grid_can_be_named(name):
    with pytest.raises(ValueError, match="is no grid of this version"):
        spec_from_json({"grid": {"class": name}, "granularity": "tensor"})


def test_reading_imports_neither_hydra_nor_optax_nor_wandb(tmp_path):
    model, layers = network(SPECS["nf4"])
    (tmp_path / "a").write_bytes(packed_content(model, layers, {}))
    code = (
        "import sys; from qresearch.export.packed_file import read_packed; from pathlib import Path; "
        f"read_packed(Path({str(tmp_path / 'a')!r})); "
        "print([name for name in ('hydra', 'optax', 'wandb', 'flax', 'pickle5') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_codes_that_do_not_tell_the_weights(tmp_path):
    model = nnx.Sequential(nnx.Linear(64, 8, rngs=nnx.Rngs(0)))
    spec, x = QuantSpec(Integer(4, range=Range.half_step), granularity="channel"), jnp.ones((2, 64))
    rules, layers = (
        assign(list(slots(model)), [Rule(".*", Assignment(spec, QuEST(AbsMax())))]),
        geometry(model, x.shape),
    )
    with pytest.raises(ValueError, match=r"codes of layer 'layers.0' do not tell its weights: QuEST changes"):
        write_bytes(tmp_path / "a", packed_content(quantize_model(model, rules, layers, {}), layers, {}))
    assert not list(tmp_path.iterdir())


def changed(path, change):
    """The file with `change(metadata, tensors)` made in it."""
    with safetensors.safe_open(path, framework="numpy") as stream:
        metadata, tensors = dict(stream.metadata()), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    change(metadata, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


def other_bits(metadata, tensors):
    specs = json.loads(metadata["specs"])
    specs[0]["grid"]["bits"] = 7
    metadata["specs"] = json.dumps(specs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, t: m.update(format="pt"), r"is pt 1, not qresearch-packed 1; export it again"),
        (lambda m, t: m.update(version="2"), r"is qresearch-packed 2, not qresearch-packed 1"),
        (lambda m, t: t.pop("layers.0.codes"), r"disagree: 'layers.0.codes' is missing"),
        (lambda m, t: t.pop("layers.0.scale"), r"disagree: 'layers.0.scale' is missing"),
        (lambda m, t: m.update(specs="[]"), r"disagree: list index out of range"),
        (lambda m, t: m.pop("layers"), r"disagree: 'layers' is missing"),
        (lambda m, t: m.update(layers="{"), r"disagree: Expecting"),
        (other_bits, r"disagree: 384 codes of 7 bits take 336 bytes, and there are 384"),
        (lambda m, t: t.update({"layers.0.zero_point": np.zeros((1, 24))}), r"zero_point does not go with"),
    ],
)
def test_files_that_disagree_with_themselves(change, message, tmp_path):
    model, layers = network(SPECS["int8"])
    (tmp_path / "a").write_bytes(packed_content(model, layers, {}))
    changed(tmp_path / "a", change)
    with pytest.raises(PackedFileError, match=message):
        read_packed(tmp_path / "a")


def test_files_that_are_cut_or_not_there(tmp_path):
    model, layers = network(SPECS["int8"])
    (tmp_path / "a").write_bytes(packed_content(model, layers, {}))
    content = (tmp_path / "a").read_bytes()
    for part in (content[:-1], content[:100], b"", b"\x80\x04pickle"):
        (tmp_path / "b").write_bytes(part)
        with pytest.raises(PackedFileError, match=r"cannot be read as safetensors.*Export it again"):
            read_packed(tmp_path / "b")
    with pytest.raises(PackedFileError, match="cannot be read"):
        read_packed(tmp_path / "nothing")
