"""`qresearch export` and `qresearch deploy` on the results of two small runs."""

import importlib.util
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from qresearch.cells.stages import evaluate
from qresearch.deploy import deploy_command, export_command
from qresearch.deploy.result import find_results, load_networks, one_result
from qresearch.execute import run
from qresearch.export.packed_file import read_packed
from qresearch.nn.slots import slots
from qresearch.store.record import read_record
from tiny import TINY, compose

pytestmark = pytest.mark.xdist_group("deploy")  # one worker makes what all tests here share
NETWORK = ["model=cnn", "model.width=4"]  # one float baseline for all
OVERRIDES = {
    "float": ["method=float"],
    "ptq": ["method=ptq", "weight.bits=4"],
    "qat": ["method=qat", "export.file=true"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    kept = [word for word in TINY if not word.startswith("model")]
    for name, overrides in OVERRIDES.items():
        run(compose(*kept, *NETWORK, *overrides, f"runs_dir={folder}"), folder / name, overrides=overrides)
    return folder


def networks(folder):
    return load_networks(read_record(folder / "result.json") | {"path": str(folder / "result.json")})


@pytest.mark.parametrize("name", ["ptq", "qat"])
def test_the_network_of_a_result_is_the_one_that_was_evaluated(runs, name):
    found = networks(runs / name)
    (accuracy,) = evaluate(found.cell, [found.model])
    record = read_record(runs / name / "result.json")
    assert accuracy["top1"] == record["metrics"]["top1"]
    assert accuracy["loss"] == pytest.approx(record["metrics"]["loss"], rel=1e-6)
    (before,) = evaluate(found.cell, [found.reference])
    assert before["loss"] == pytest.approx(record["metrics"]["loss_float"], rel=1e-4)


def test_a_file_and_a_new_computation_give_one_network(runs, tmp_path):
    """PTQ needs no file; where there is one, it is read, to the bit."""
    shutil.copytree(runs / "ptq", tmp_path / "ptq")
    assert export_command.write(runs / "ptq", [], "safetensors", tmp_path / "ptq" / "model.safetensors")
    computed, read = networks(runs / "ptq"), networks(tmp_path / "ptq")
    x = computed.cell.normalise(computed.cell.data.test()[0])
    run = jax.jit(lambda model, x: model(x))
    np.testing.assert_array_equal(run(read.model, x), run(computed.model, x))
    for path, slot in slots(read.model).items():
        np.testing.assert_array_equal(slot.weight[...], slots(computed.model)[path].weight[...])


def test_the_packed_file_of_a_run_is_the_one_that_is_exported(runs, tmp_path, capsys):
    export_command.main([str(runs), "method=qat", "--to", "safetensors", "-o", str(tmp_path / "a.safetensors")])
    said = capsys.readouterr().out
    kept, written = (
        (folder / name).read_bytes()
        for folder, name in ((runs / "qat", "model.safetensors"), (tmp_path, "a.safetensors"))
    )
    assert safetensors.numpy.load(kept).keys() == safetensors.numpy.load(written).keys()
    packed = read_packed(tmp_path / "a.safetensors")
    assert packed.about["model"]["width"] == 4 and packed.about["shape"] == [8, 8, 1]
    assert f"{len(written):,} bytes" in said and said.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such result; name a result.json, its folder, or a folder of runs"),
        (["."], "3 results under . fit; say which with KEY=VALUE"),
        ([".", "weight.bits=3"], "No result under . has weight.bits=3; weight.bits is 4, 8 there"),
        ([".", "widht=3"], "'widht=3' is no KEY=VALUE of these results"),
        ([".", "weight.bits"], "'weight.bits' is no KEY=VALUE of these results"),
        (["float"], "is a float network, which has no codes; choose a result of ptq or qat"),
    ],
)
def test_what_cannot_be_exported(runs, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit, match=f"(?s)error: .*{message}"):
        export_command.main([*arguments, "--to", "safetensors", "-o", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_qat_without_its_file_cannot_be_exported(runs, tmp_path):
    shutil.copytree(runs / "qat", tmp_path / "qat")
    (tmp_path / "qat" / "model.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"does not hold model.safetensors.*run it with export.file=true"):
        export_command.main([str(tmp_path / "qat"), "--to", "onnx", "-o", str(tmp_path / "x")])


def test_a_truncated_file_is_no_network(runs, tmp_path):
    shutil.copytree(runs / "qat", tmp_path / "qat")
    path = tmp_path / "qat" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SystemExit, match=r"model.safetensors cannot be read as safetensors.*Export it again"):
        export_command.main([str(tmp_path / "qat"), "--to", "onnx", "-o", str(tmp_path / "x")])


@pytest.mark.parametrize(
    "arguments", [["x", "--to", "tensorrt", "-o", "y"], ["x", "--to", "onnx"], ["--to", "onnx", "-o", "y"]]
)
def test_a_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        export_command.main(arguments)
    assert exit.value.code == 2 and "usage: qresearch export" in capsys.readouterr().err


def test_float32_is_for_runtimes(capsys):
    with pytest.raises(SystemExit) as exit:
        export_command.main(["x", "--to", "safetensors", "--float32", "-o", "y"])
    assert exit.value.code == 2 and "--float32 is for onnx and litert" in capsys.readouterr().err


def test_results_are_found_by_what_was_written_on_the_command_line(runs):
    assert len(find_results(runs, [])) == 3
    assert [record["config"]["export"]["file"] for record in find_results(runs, ["method=qat"])] == [True]
    assert one_result(runs, ["export.file=false", "method=ptq"])["config"]["weight"]["bits"] == 4
    assert one_result(runs / "ptq" / "result.json", [])["config"]["weight"]["bits"] == 4


@pytest.mark.parametrize(
    ("option", "message"), [("--threads=0", "is outside 1.."), ("--rounds=3", "too few for percentiles")]
)
def test_what_cannot_be_measured(option, message, capsys):
    with pytest.raises(SystemExit) as exit:
        deploy_command.main(["x", option])
    assert exit.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("missing", [None, "onnxruntime"])
def test_figures_are_printed_and_kept(runs, tmp_path, capsys, monkeypatch, missing):
    shutil.copytree(runs / "ptq", tmp_path / "runs" / "ptq")
    shutil.copytree(runs / "float", tmp_path / "runs" / "float")
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else there(name, *rest)
    )
    deploy_command.main([str(tmp_path / "runs"), "--rounds=20"])
    said, record = capsys.readouterr().out, read_record(tmp_path / "runs" / "ptq" / "result.json")
    found, metrics = record["deployment"], record["metrics"]
    rows = {row["engine"]: row for row in found["engines"]}
    assert {"JAX float32", "JAX int8"} <= rows.keys() and rows["JAX int8"]["agreement"] == 1.0
    assert metrics["top1"] == read_record(runs / "ptq" / "result.json")["metrics"]["top1"]  # what was known stays
    for name, row in rows.items():
        for batch in ("1", "32"):
            low, median, high = (row["latency"][batch][key] for key in ("low_ms", "median_ms", "high_ms"))
            assert 0 < low <= median <= high and row["latency"][batch]["calls"] == 20
            assert row["peak_bytes"][batch] is None or row["peak_bytes"][batch] > 0
        assert name in said and f"{row['top1']:.2f}" in said
        if row["precision"] == "int8":
            assert row["agreement"] > 0.98 and row["largest_lsb"] <= 2
            assert metrics[f"{row['runtime']}_latency_ms"] == row["latency"]["1"]["median_ms"]
        if row["bytes"] is not None and row["precision"] == "int8":
            assert metrics[f"{row['runtime']}_bytes"] == row["bytes"]
    assert found["table"].startswith("Horowitz, ISSCC 2014") and found["table"] in said and "uJ arithmetic" in said
    for costs in found["costs"].values():
        assert sum(cost["macs"] for cost in costs.values()) == metrics["macs"]
    assert found["costs"]["quantized"] == record["costs"]
    json.dumps(record, allow_nan=False)
    if missing or there("onnxruntime") is None:
        assert not any(name.startswith("ONNX") for name in rows)
        assert "ONNX Runtime is not installed: the extra `onnx` brings it" in said
    else:
        assert rows["ONNX Runtime float32"]["top1"] == pytest.approx(metrics["top1_float"], abs=0.4)
    assert "deployment" not in read_record(tmp_path / "runs" / "float" / "result.json")


FORMATS = ["format@weight=e4m3", "format@act=e4m3", "weight.granularity=channel"]


def test_floats_of_8_bits_go_to_onnx_alone(runs, tmp_path):
    """ONNX holds them, with floats between the layers, and says so; LiteRT says what it holds."""
    folder = tmp_path / "e4m3"
    kept = [word for word in TINY if not word.startswith("model")]
    run(compose(*kept, *NETWORK, "method=ptq", *FORMATS, f"runs_dir={runs}"), folder)
    said = export_command.write(folder, [], "onnx", tmp_path / "e4m3.onnx")
    assert "Between its layers all is float, since there are no integers: The weight of layer 'conv1'" in said
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "e4m3.onnx")
    found = networks(folder)
    x = np.asarray(found.cell.normalise(found.cell.data.test()[0]))
    (logits,) = session.run(None, {"input": np.moveaxis(x, -1, 1)})
    expected = np.asarray(jax.jit(lambda model, x: model(x))(found.model, x))
    assert np.mean(np.isclose(logits, expected, rtol=1e-3, atol=1e-3)) > 0.9
    with pytest.raises(ValueError, match=r"LiteRT runs networks of 8-bit integers alone.*'conv1'.*are unequal"):
        export_command.write(folder, [], "litert", tmp_path / "x")
