"""Whole runs on digits: the numbers of `result.json` beside a numpy network made from the stored baseline."""

import datetime
import json
import math
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from qresearch.config.check import check, config_hash
from qresearch.config.nodes import plain
from qresearch.data.digits import Digits
from qresearch.execute import run
from qresearch.export.packed_file import read_packed
from qresearch.run import _alone, metrics_line, parity_line
from tiny import compose

CALIBRATION, ANATOMY = 32, 16
pytestmark = pytest.mark.xdist_group("run")  # one worker makes what all tests here share
TINY = [
    "model.width=4",
    "data.crop=0",
    "baseline.epochs=4",
    "baseline.learning_rate=0.02",
    "optim.epochs=1",
    f"calibration.images={CALIBRATION}",
    f"anatomy_images={ANATOMY}",
    "tracker=none",
    "sweep.name=unused",  # the default says the time
]
STE = ["quantizer@weight.quantizer=dynamic", "observer@weight.observer=absmax"]
STE += ["quantizer@act.quantizer=static", "observer@act.observer=absmax"]
RUNS = {
    "float": ["method=float"],
    "weights": ["weight.bits=3", "act.bits=null"],
    "static": ["weight.bits=4", "act.bits=4"],
    "sibling": ["weight.bits=3", "act.bits=6"],
    "dynamic": [
        "weight.bits=4",
        "weight.grid.range=narrow",
        "act.bits=4",
        "quantizer@act.quantizer=dynamic",
        "method.batch_norm=freeze",
    ],
    "lsq": ["method=qat", "weight.bits=4", "act.bits=4"],
    "lsq sibling": ["method=qat", "weight.bits=2", "act.bits=3", "optim.learning_rate=0.02"],
    "ste": ["method=qat", "weight.bits=4", "act.bits=4", *STE],
    "again": ["method=qat", "weight.bits=4", "act.bits=4"],  # as "lsq", beside a baseline of its own
}
QUANTIZED = [name for name in RUNS if name != "float"]
LAYERS = ("conv1", "conv2", "linear")
ELEMENTS = {"conv1": 9 * 1 * 4, "conv2": 9 * 4 * 8, "linear": 8 * 10}
CHANNELS = {"conv1": 4, "conv2": 8, "linear": 10}
NORM = 4 * (4 + 8)  # elements of batch norm: scale, bias, mean and variance of each channel
MACS = {"conv1": 64 * 4 * 9, "conv2": 16 * 8 * 36, "linear": 80}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def records(folder):
    """The record of every run, read from its file."""
    jax.clear_caches()  # so that the first run of a group compiles its programs here
    found = {}
    for name, overrides in RUNS.items():
        runs_dir = folder / ("other" if name == "again" else "shared")
        returned = run(compose(*TINY, *overrides, f"runs_dir={runs_dir}"), folder / name, overrides=overrides)
        found[name] = json.loads((folder / name / "result.json").read_text())
        assert found[name] == json.loads(json.dumps(returned))
    return found


@pytest.fixture(scope="module")
def folded(records, folder):
    """Kernels (out, in, h, w) or (out, in) and biases of the stored baseline, batch norm folded in."""
    (checkpoint,) = (folder / "shared" / "baselines").glob("*.safetensors")
    tensors = safetensors.numpy.load_file(checkpoint)
    layers = {"linear": (tensors["linear.weight"], tensors["linear.bias"])}
    for number in (1, 2):
        norm = {key: tensors[f"bn{number}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        factor = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(1e-5))
        kernel = tensors[f"conv{number}.weight"] * factor[:, None, None, None]
        layers[f"conv{number}"] = (kernel, norm["bias"] - norm["running_mean"] * factor)
    return layers


def rounded(kernel, bits):
    """Codes and scale of a kernel: symmetric, one scale for each output channel, the largest value on the last code."""
    axes = tuple(range(1, kernel.ndim))
    scale = np.max(np.abs(kernel), axis=axes, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    return np.round(kernel / scale), scale


def convolve(x, kernel, bias, stride):
    """A 3x3 convolution of images (n, h, w, c) with one pixel of padding."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ocij->nhwo", windows, kernel) + bias


def inputs_and_logits(x, layers, act=lambda layer, x: x):
    """The input of every layer, as `act` leaves it, and the logits of the two convolutions and the linear layer."""
    inputs = {"conv1": act("conv1", x)}
    inputs["conv2"] = act("conv2", np.maximum(convolve(inputs["conv1"], *layers["conv1"], 1), 0))
    inputs["linear"] = act("linear", np.maximum(convolve(inputs["conv2"], *layers["conv2"], 2), 0).mean(axis=(1, 2)))
    kernel, bias = layers["linear"]
    return inputs, inputs["linear"] @ kernel.T + bias


def scores(logits, labels):
    logits = logits.astype(np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return 100 * np.mean(logits.argmax(axis=1) == labels), losses.mean()


def pixels(images):
    """Images of Digits as a network sees them."""
    return images.astype(np.float32) / np.float32(16)


@pytest.fixture(scope="module")
def labelled():
    images, labels = Digits().test()
    return pixels(images), labels


def rows_of(record, tensor):
    return {row["layer"]: row for row in record["layers"] if row["tensor"] == tensor}


@pytest.mark.parametrize("name", RUNS)
def test_record_is_whole(name, records, folder):
    record = records[name]
    cfg = check(compose(*TINY, *RUNS[name], f"runs_dir={folder / ('other' if name == 'again' else 'shared')}"))
    assert (record["schema"], record["status"], record["message"]) == (2, "finished", None)
    assert record["overrides"] == RUNS[name] and record["not_finite"] == []
    assert record["config"] == plain(cfg) and record["config_hash"] == config_hash(cfg)
    metrics = record["metrics"]
    assert {"top1", "top1_float", "loss", "size_bytes", "size_bytes_float", "seconds", "programs"} <= metrics.keys()
    assert (metrics["test_images"], metrics["stacked"]) == (297, 1)
    finished = datetime.datetime.fromisoformat(record["finished_at"])
    assert finished.tzinfo is not None and abs((datetime.datetime.now(datetime.UTC) - finished).total_seconds()) < 600
    assert all(type(value) in (int, float) and math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["top1"] <= 100 and 0 < metrics["seconds"] < 600
    assert metrics["top1_float"] > 30  # chance is 10
    environment = record["environment"]
    assert {"jax", "flax", "optax", "numpy"} <= environment["versions"].keys()
    assert environment["versions"]["jax"] == jax.__version__
    assert {"python", "platform", "device", "backend", "git_commit", "git_dirty"} <= environment.keys()
    assert sorted(path.name for path in (folder / name).iterdir()) == ["audit.txt", "curves.json", "result.json"]
    assert "NaN" not in (folder / name / "result.json").read_text()


def test_the_network_is_kept_where_it_is_asked_for(records, folder):
    cfg = compose(*TINY, *RUNS["static"], "export.file=true", f"runs_dir={folder / 'shared'}")
    record = run(cfg, folder / "file")
    path = folder / "file" / "model.safetensors"
    metrics = record["metrics"]
    assert metrics["file_bytes"] == path.stat().st_size <= 1.02 * metrics["size_bytes"] + 4000
    assert metrics["top1"] == records["static"]["metrics"]["top1"]
    kept = read_packed(path)
    assert list(kept.weights) == list(kept.inputs) == list(LAYERS)
    for layer, q in kept.weights.items():
        assert q.codes.size == ELEMENTS[layer] and q.scale.size == CHANNELS[layer] and int(q.spec.grid.bits) == 4
    assert kept.about["model"] == record["config"]["model"] and kept.about["shape"] == [8, 8, 1]
    assert kept.about["pixels"]["maximum"] == [16.0] and kept.about["classes"] == 10
    assert "file_bytes" not in records["static"]["metrics"] and not (folder / "static" / "model.safetensors").exists()


def test_a_network_whose_codes_do_not_tell_its_weights_has_no_file_and_keeps_its_result(folder):
    quest = ["quantizer@weight.quantizer=quest", "observer@weight.observer=gaussian", "weight.grid.range=half_step"]
    cfg = compose(
        *TINY, "method=qat", *quest, "model=mlp", "data=digits", "export.file=true", f"runs_dir={folder / 'mlp'}"
    )
    record = run(cfg, folder / "quest")
    assert record["status"] == "finished" and record["metrics"]["top1"] > 0
    assert re.match("There is no packed file of it. The codes of layer .* do not tell its weights", record["message"])
    assert not (folder / "quest" / "model.safetensors").exists()


def test_parity_is_recorded_where_it_is_asked_for(records, folder, capsys):
    """A run of its own, which is the same network."""
    assert all(record["parity"] is None for record in records.values())
    cfg = compose(*TINY, *RUNS["lsq"], "export.parity=true", f"runs_dir={folder / 'shared'}")
    record = _alone(cfg, folder / "parity", [])
    metrics, found = record["metrics"], record["parity"]
    assert metrics["top1"] == found["top1_simulated"] == records["lsq"]["metrics"]["top1"]
    assert [row["layer"] for row in found["layers"]] == list(LAYERS)
    assert [row["codes"] for row in found["layers"]] == [297 * count for count in (64, 64 * 4, 8)]
    assert metrics["top1_integer"] == found["top1_integer"]
    assert metrics["parity_equal"] == min(row["equal"] for row in found["layers"]) > 0.999
    assert metrics["parity_largest_lsb"] == max(row["largest_lsb"] for row in found["layers"]) <= 1
    assert parity_line(found) in capsys.readouterr().out
    assert (found["between"], found["requantize"]) == ("int32", "even")


@pytest.mark.parametrize("between", [pytest.param("float32", marks=pytest.mark.slow), "int8"])
def test_parity_of_other_networks_on_integers(between, records, folder):
    """With 8 bits between the layers the simulation rounds there too, and its accuracy is another."""
    cfg = compose(
        *TINY, *RUNS["lsq"], "export.parity=true", f"export.between={between}", f"runs_dir={folder / 'shared'}"
    )
    found = run(cfg, folder / between)["parity"]
    assert found["between"] == between and found["requantize"] == {"float32": None, "int8": "even"}[between]
    assert min(row["equal"] for row in found["layers"]) > 0.999 and found["agreement"] > 0.99
    assert (found["top1_simulated"] == records["lsq"]["metrics"]["top1"]) or between == "int8"


def test_float_run_is_its_own_baseline(records, folded, labelled):
    record, (x, labels) = records["float"], labelled
    top1, loss = scores(inputs_and_logits(x, folded)[1], labels)
    assert record["metrics"]["top1"] == record["metrics"]["top1_float"] == pytest.approx(top1, abs=1e-9)
    assert record["metrics"]["loss"] == record["metrics"]["loss_float"] == pytest.approx(loss, rel=1e-5)
    assert record["layers"] == []
    assert all(row["bits"] is None for row in record["audit"])
    size = 4 * (sum(ELEMENTS.values()) + NORM + 10)
    assert record["metrics"]["size_bytes"] == record["metrics"]["size_bytes_float"] == size


def test_all_runs_share_one_baseline(records, folder):
    assert len(list((folder / "shared" / "baselines").glob("*.safetensors"))) == 1
    baselines = {(record["metrics"]["top1_float"], record["metrics"]["loss_float"]) for record in records.values()}
    assert len(baselines) == 1
    assert records["float"]["programs"]["train_step"] == 1
    assert all("train_step" not in records[name]["programs"] for name in ("weights", "static", "dynamic"))


def test_rounded_weights_give_the_accuracy_of_a_numpy_network(records, folded, labelled):
    layers, errors = {}, {}
    for layer, (kernel, bias) in folded.items():
        codes, scale = rounded(kernel, 3)
        layers[layer] = (codes * scale, bias)
        errors[layer] = (kernel - codes * scale, kernel, codes, scale)
    x, labels = labelled
    top1, loss = scores(inputs_and_logits(x, layers)[1], labels)
    record = records["weights"]
    assert record["metrics"]["top1"] == pytest.approx(top1, abs=1e-9)
    assert record["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert top1 < record["metrics"]["top1_float"] - 5  # at 3 bits it must cost something, or nothing was tested
    for layer, row in rows_of(record, "weight").items():
        error, kernel, codes, scale = errors[layer]
        assert row["mse"] == pytest.approx(np.mean(error**2), rel=1e-4)
        assert row["sqnr_db"] == pytest.approx(10 * np.log10(np.sum(kernel**2) / np.sum(error**2)), rel=1e-4)
        assert row["max_error"] == pytest.approx(np.abs(error).max(), rel=1e-4)
        assert row["bias"] == pytest.approx(error.mean(), rel=1e-3, abs=1e-8)
        assert row["mse_uniform"] == pytest.approx(np.mean(scale**2) / 12, rel=1e-5)
        assert row["mse_clip"] == pytest.approx(0, abs=1e-12)
        assert (row["codes_used"], row["codes"]) == (len(np.unique(codes)), 8)


def test_static_activations_give_the_accuracy_of_a_numpy_network(records, folded, labelled):
    images, _ = Digits().train(CALIBRATION)
    seen, _ = inputs_and_logits(pixels(images), folded)
    scales = {layer: np.float32(x.max()) / np.float32(15) for layer, x in seen.items()}  # never below 0: unsigned

    def act(layer, x):
        return np.round(np.clip(x / scales[layer], 0, 15)) * scales[layer]

    layers = {layer: (np.multiply(*rounded(kernel, 4)), bias) for layer, (kernel, bias) in folded.items()}
    x, labels = labelled
    top1, loss = scores(inputs_and_logits(x, layers, act)[1], labels)
    assert records["static"]["metrics"]["top1"] == pytest.approx(top1, abs=0.5)  # a value on a tie may fall either way
    assert records["static"]["metrics"]["loss"] == pytest.approx(loss, rel=1e-3)
    for row in rows_of(records["static"], "input").values():
        assert row["mse_uniform"] == pytest.approx(scales[row["layer"]] ** 2 / 12, rel=1e-4)
        assert row["codes"] == 16


def test_dynamic_activations_and_frozen_batch_norm_give_the_accuracy_of_a_numpy_network(records, folded, labelled):
    """All test images are one batch. With a scale for every channel of the weights, frozen and folded are the same."""

    def act(layer, x):
        scale = np.float32(x.max()) / np.float32(15)
        return np.round(np.clip(x / scale, 0, 15)) * scale

    layers = {layer: (np.multiply(*rounded(kernel, 4)), bias) for layer, (kernel, bias) in folded.items()}
    x, labels = labelled
    top1, loss = scores(inputs_and_logits(x, layers, act)[1], labels)
    assert records["dynamic"]["metrics"]["top1"] == pytest.approx(top1, abs=0.5)
    assert records["dynamic"]["metrics"]["loss"] == pytest.approx(loss, rel=1e-3)
    assert records["static"]["float_tensors"].keys() == {f"{layer}.bias" for layer in LAYERS}
    assert {path.partition(".")[0] for path in records["dynamic"]["float_tensors"]} == {"bn1", "bn2", "linear"}


@pytest.mark.parametrize("name", QUANTIZED)
def test_size_by_hand(name, records):
    record = records[name]
    bits = record["config"]["weight"]["bits"]
    size = sum(-(-ELEMENTS[layer] * bits // 8) + 4 * CHANNELS[layer] for layer in LAYERS)
    folds = record["config"]["method"]["batch_norm"] == "fold"
    size += 4 * (sum(CHANNELS.values()) if folds else NORM + 10)  # what stays float
    if name not in ("weights", "dynamic"):
        size += 4 * len(LAYERS)  # a stored scale for every input
    # The plain straight-through quantizer takes the scale of its weights from them; a packed model stores it still.
    assert record["metrics"]["size_bytes"] == size


@pytest.mark.parametrize("name", RUNS)
def test_costs_by_hand(name, records):
    record = records[name]
    config, metrics = record["config"], record["metrics"]
    weight, act = (config[side]["bits"] or 32 for side in ("weight", "act"))
    if name == "float":
        weight = act = 32
    assert metrics["macs"] == sum(MACS.values())
    assert metrics["bitops"] == sum(MACS.values()) * weight * act
    per_mac = 0.2 * weight * act / 64 + 0.1 if weight < 32 and act < 32 else 3.7 + 0.9  # pJ
    assert metrics["energy_arithmetic_uj_estimate"] == pytest.approx(sum(MACS.values()) * per_mac / 1e6)


def test_cells_of_a_group_share_their_programs(records):
    for first, second in (("static", "sibling"), ("lsq", "lsq sibling"), ("lsq", "again")):
        assert records[first]["group"] == records[second]["group"]
        assert records[second]["programs"] == {} and records[second]["metrics"]["programs"] == 0
    one_each = ("float", "weights", "static", "dynamic", "lsq", "ste")
    assert len({records[name]["group"] for name in one_each}) == len(one_each)
    for name in one_each:
        programs = records[name]["programs"]
        assert programs["evaluate_batch"] == 1  # the float network's own is that of the float run
        assert sum(programs.values()) == records[name]["metrics"]["programs"]
        assert set(programs.values()) == {1}
        assert ("train_step" in programs) == (name in ("float", "lsq", "ste"))


def test_the_same_configuration_gives_the_same_numbers(records, folder):
    first, second = records["lsq"], records["again"]
    assert first["config_hash"] == second["config_hash"]
    for metrics in (first["metrics"], second["metrics"]):
        assert metrics.keys() >= {"seconds", "programs"}
    timeless = [{k: v for k, v in r["metrics"].items() if k not in ("seconds", "programs")} for r in (first, second)]
    assert timeless[0] == timeless[1]
    assert first["layers"] == second["layers"] and first["audit"] == second["audit"]
    curves = [(folder / name / "curves.json").read_text() for name in ("lsq", "again")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("name", QUANTIZED)
def test_anatomy_is_complete_and_adds_up(name, records):
    rows = records[name]["layers"]
    tensors = ("weight", "output") if name == "weights" else ("weight", "input", "output")
    assert [(row["layer"], row["tensor"]) for row in rows] == [(layer, t) for layer in LAYERS for t in tensors]
    for row in rows:
        common = {"mse", "sqnr_db", "cosine", "bias", "max_error"}
        split = {"mse_clip", "mse_round", "mse_uniform", "codes_used", "codes"}
        assert row.keys() - {"layer", "tensor"} == (common if row["tensor"] == "output" else common | split)
        assert 0 < row["mse"] <= row["max_error"] ** 2 * 1.0001
        assert 0.3 < row["cosine"] <= 1.0001
        if row["tensor"] != "output":
            assert row["mse"] == pytest.approx(row["mse_clip"] + row["mse_round"], rel=1e-4)
            spec = records[name]["config"]["weight" if row["tensor"] == "weight" else "act"]
            assert row["codes"] == 2 ** spec["bits"] - (spec["grid"]["range"] == "narrow")
            assert 2 <= row["codes_used"] <= row["codes"]
    metrics = records[name]["metrics"]
    for tensor in tensors:
        values = [row["sqnr_db"] for row in rows_of(records[name], tensor).values()]
        assert metrics[f"sqnr_{tensor}_db"] == pytest.approx(np.mean(values))
        assert metrics[f"sqnr_{tensor}_db_min"] == min(values)


@pytest.mark.parametrize("name", ["lsq", "ste"])
def test_curves_lie_beside_the_record(name, records, folder):
    curves = json.loads((folder / name / "curves.json").read_text())
    assert curves.keys() == {"baseline", "qat"}
    batches = 1500 // 64
    assert [point["step"] for point in curves["baseline"]] == list(range(1, 4 * batches + 1))
    assert [point["step"] for point in curves["qat"]] == list(range(1, batches + 1))
    for points in curves.values():
        assert all(math.isfinite(point["loss"]) and 0 <= point["accuracy"] <= 1 for point in points)
    assert np.mean([point["loss"] for point in curves["baseline"][-5:]]) < 1.8 < curves["baseline"][0]["loss"]
    sides = ("act", "weight") if name == "lsq" else ("act",)  # the plain quantizer keeps no scale for its weights
    assert curves["qat"][0].keys() - {"step", "loss", "accuracy"} == {f"scale/{x}.{y}" for x in LAYERS for y in sides}
    for layer in LAYERS:
        scales = [point[f"scale/{layer}.act"] for point in curves["qat"]]
        assert (len(set(scales)) > 1) == (name == "lsq")  # learned, or fixed by calibration


def test_runs_that_train_nothing_have_the_curves_of_the_baseline_alone(records, folder):
    for name in ("float", "static"):
        assert json.loads((folder / name / "curves.json").read_text()).keys() == {"baseline"}


@pytest.mark.parametrize("name", QUANTIZED)
def test_audit_says_what_each_layer_is(name, records, folder):
    record = records[name]
    weight, act = record["config"]["weight"], record["config"]["act"]
    rows = {(row["layer"], row["tensor"]): row for row in record["audit"]}
    assert list(rows) == [(layer, tensor) for layer in LAYERS for tensor in ("weight", "input")]
    for (_, tensor), row in rows.items():
        assert row["bits"] == (weight if tensor == "weight" else act)["bits"]
        if row["bits"] is not None:
            # No pixel and no output of a ReLU is below zero.
            assert row["grid"].split()[0] == f"{'int' if tensor == 'weight' else 'uint'}{row['bits']}"
            assert (row["scale"], row["rounding"]) == ("float32", "half_even")
    assert rows["conv2", "weight"]["granularity"] == "channel"
    assert rows["conv2", "weight"]["grid"] == f"int{weight['bits']}{' narrow' if name == 'dynamic' else ''}"
    kind = {"lsq": "LSQ", "lsq sibling": "LSQ", "again": "LSQ", "ste": "Dynamic"}.get(name, "Static")
    assert rows["conv2", "weight"]["quantizer"] == kind
    assert rows["conv2", "weight"]["estimator"] == "ClippedStraightThrough"
    text = (folder / name / "audit.txt").read_text()
    assert all(layer in text for layer in LAYERS) and "stays float" in text


def test_a_run_ends_with_its_headline(records, capsys, tmp_path):
    cfg = compose(*TINY, *RUNS["sibling"], f"runs_dir={tmp_path}")
    record = _alone(cfg, tmp_path / "run", RUNS["sibling"])
    *audit, headline, where = capsys.readouterr().out.splitlines()
    assert audit == (tmp_path / "run" / "audit.txt").read_text().splitlines()
    assert headline == metrics_line(record["metrics"])
    assert where == f"result: {tmp_path / 'run' / 'result.json'}"
    assert run(cfg, tmp_path / "silent")
    assert capsys.readouterr().out == ""  # who calls it speaks for it


def diverged(tmp_path, *overrides):
    record = run(compose(*TINY, *overrides, f"runs_dir={tmp_path}"), tmp_path / "run")
    assert record == json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["status"] == "diverged"
    return record


def test_a_loss_that_is_no_number_is_a_status(tmp_path):
    record = diverged(tmp_path, "method=qat", "optim.learning_rate=1e30")
    assert re.match(r"The \S+ is (nan|-?inf|-\S+) after step \d+; lower optim\.learning_rate", record["message"])
    assert record["metrics"].keys() >= {"top1_float", "seconds", "programs"} and "top1" not in record["metrics"]
    assert len(json.loads((tmp_path / "run" / "curves.json").read_text())["diverged"]) < 23


def test_a_diverged_baseline_is_not_kept(tmp_path):
    record = diverged(tmp_path, "method=ptq", "baseline.learning_rate=1e30")
    assert "top1_float" not in record["metrics"]
    assert [path.name for path in tmp_path.glob("baselines/*")] == [".claims"]
    assert "baseline.learning_rate" in record["message"]


@pytest.mark.parametrize("stage", ["baseline", "optim"])
def test_weights_that_the_last_step_ruined_are_no_result(stage, tmp_path):
    one_step = [f"{stage}.batch_size=1500", f"{stage}.epochs=1", f"{stage}.learning_rate=1e38"]
    assert "top1" not in diverged(tmp_path, "method=qat", *one_step)["metrics"]
