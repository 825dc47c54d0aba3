"""Bad input: one message with the value, the rule and the way out, before anything is trained.

What a folder of tests beside the code checks in depth (data files, trackers) is here once, through a whole run.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from hydra.errors import CompactHydraException, HydraException

from qresearch.config.schema import CONFIG_FOLDER, ConfigError
from qresearch.data.error import DataError
from qresearch.data.source import VARIABLE
from qresearch.execute import _failure, run, sweep_job
from qresearch.models.checkpoint import CheckpointError, save_checkpoint
from qresearch.models.mlp import MLP
from qresearch.sweep.launch import check_span

ROOT = Path(__file__).parents[1]
MLP_OF_8 = ["model=mlp", "model.width=8"]
TINY = ["baseline.epochs=1", "optim.epochs=1", "anatomy_images=8", "calibration.images=16", "tracker=none"]


def attempt(folder, *overrides):
    model = [] if any(override.startswith("model=") for override in overrides) else MLP_OF_8
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", [*model, *TINY, f"runs_dir={folder / 'runs'}", *overrides])
    return run(cfg, folder / "run", overrides=overrides)


def message_of(folder, *overrides, error=ValueError):
    """What a run with these overrides says, in its record too; no baseline has been trained by then."""
    with pytest.raises(error) as caught:
        attempt(folder, *overrides)
    assert {path.name for path in folder.glob("runs/**/*") if path.is_file()} <= {".claims"}
    assert [path.name for path in (folder / "run").iterdir()] == ["result.json"]
    record = json.loads((folder / "run" / "result.json").read_text())
    assert (record["status"], record["message"]) == ("failed", str(caught.value)) and record["metrics"] == {}
    assert record["overrides"] == list(overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ("weight.bits=0", ["bits=0", "1..16"]),
        ("weight.bits=17", ["bits=17", "1..16"]),
        ("act.bits=-3", ["bits=-3", "1..16"]),
        ("weight.bits=1", ["bits=1", "no positive code", "bits >= 2"]),
        ("export.parity=true act.bits=null", ["'layers.0' has a float side", "match=layers.0 and float=true"]),
        ("export.parity=true format@weight=nf4 weight.granularity=tensor", ["'layers.0'", "nf4", "unequal"]),
        ("export.parity=true weight.bits=16 act.bits=16", ["'layers.0' sums 64 products", "int32", "use fewer bits"]),
        (
            "export.parity=true quantizer@act.quantizer=dynamic",
            ["'layers.0' has a scale that Dynamic finds at run time", "export.between=float32"],
        ),
        ("export.parity=true act.rounding=floor", ["rounding=floor", "ties to even", "export.between=float32"]),
        (
            "export.between=float32 export.requantize=double",
            ["export.requantize=double", "no integers are rescaled", "int32 or int8"],
        ),
        (
            "weight.granularity=block weight.block_size=48",
            ["layers.0", "block_size=48", "does not divide axis 0", "(64, 8)", "choose a divisor of 64"],
        ),
        ("weight.granularity=block", ["block_size=None", "granularity=block needs", "for example 32"]),
        ("weight.block_size=8", ["block_size=8", "granularity=channel", "set granularity=block, or block_size=null"]),
        ("rules=ends_8bit", ["conv1|linear", "decide no layer", "layers.0", "layers.1", "remove the rule or mend"]),
        ("rules.every.match=layers.0", ["layers.1", "layers.2", "No rule decides", "match='.*'"]),
        ("rules.every.match=layers", ["No rule decides", "layers.0"]),
        ("rules.every.match='layers.['", ["rules.every", "layers.[", "not a regular expression"]),
        ("act.granularity=channel", ["act.granularity=channel", "stored scale", "dynamic quantizer"]),
        (
            "quantizer@weight.quantizer=lsq weight.grid.zero_point=integer",
            ["weight.grid.zero_point", "LSQ", "learns a scale and no zero point", "or static"],
        ),
        (
            "observer@act.observer=mean_magnitude act.grid.zero_point=float",
            ["act.grid.zero_point", "gives no zero point", "use observer@act.observer=minmax"],
        ),
        (
            "quantizer@weight.quantizer=lsq format@weight=e4m3",
            ["weight.grid=e4m3fn", "LSQ", "equal steps", "or dynamic"],
        ),
        ("format@weight=e4m3 weight.bits=4", ["bits=4", "e4m3fn", "has 8"]),
        ("weight.scale_format=e8m0", ["scale_rule", "scale_format=e8m0", "floor", "nearest"]),
        ("weight.scale_rule=ceil", ["scale_rule=ceil", "scale_format=float32", "take none"]),
        (
            "method=qat grad.bits=8 quantizer@grad.quantizer=static",
            ["grad.quantizer=Static", "calibration", "quantizer@grad.quantizer=dynamic"],
        ),
        ("method.batch_norm=train", ["method.batch_norm=train", "needs training", "fold or freeze"]),
        ("model=resnet model.depth=21", ["depth=21", "6n + 2", "choose 8, 14, 20"]),
        ("baseline.batch_size=1501", ["batch_size=1501", "1500 training images", "lower"]),
        ("method=qat optim.batch_size=1501", ["batch_size=1501", "1500 training images", "lower"]),
        ("calibration.images=1501", ["1501", "1500", "training images"]),
        ("calibration.batch_size=0", ["calibration.batch_size", "at least 1"]),
        ("optim.epochs=0 method=qat", ["epochs=0", "at least 1"]),
        ("baseline.learning_rate=-1", ["learning_rate=-1", "negative", "0 or more"]),
        ("data.crop=9", ["crop=9", "between 0 and 7", "choose 0"]),
        ("seed=-1", ["seed=-1"]),
        ("seed=99999999999", ["seed=99999999999"]),
        ("+weight.bit=4", ["bit"]),
        ("act.bits=${weight.bitz}", ["weight.bitz"]),
        ("weight.observer=mse", ["weight.observer='mse'", "configs/observer"]),
        ("weight.grid.range=wide", ["weight.grid", "wide", "narrow, full, half_step"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_known_before_anything_is_computed(overrides, parts, tmp_path):
    message = message_of(tmp_path, *overrides.split())
    for part in parts:
        assert part in message
    assert "full_key" not in message and "object_type" not in message  # omegaconf's words, not ours


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("weight.bit=4", ["weight.bit", "'bit'"]),
        ("model.depht=4", ["model.depht"]),
        ("weight.bits=foo", ["weight.bits", "foo", "Integer"]),
        ("seed=1.5", ["seed", "1.5", "Integer"]),
        ("weight.rounding=up", ["weight.rounding", "up", "half_even, half_away"]),
        ("model=vgg", ["model/vgg", "cnn", "mlp", "resnet"]),
        ("method", ["method"]),
    ],
)
def test_known_in_composition(override, parts, tmp_path):
    with pytest.raises(HydraException) as caught:
        attempt(tmp_path, override)
    said = f"{caught.value} {caught.value.__cause__}"  # Hydra prints both
    assert all(part in said for part in parts)


@pytest.fixture
def checkpoint(tmp_path):
    """The tensors of a checkpoint of the default network, and a function that writes them."""
    save_checkpoint(MLP(width=8).build((8, 8, 1), 10, rngs=nnx.Rngs(0)), tmp_path / "a.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    return tensors, lambda: safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")


def test_checkpoint_that_does_not_fit_lists_all_that_is_wrong(checkpoint, tmp_path):
    tensors, save = checkpoint
    del tensors["layers.0.bias"]
    tensors["layers.3.weight"] = np.zeros((1, 1), np.float32)
    tensors["layers.2.weight"] = np.zeros((3, 8), np.float32)
    save()
    message = message_of(tmp_path, f"model.weights={tmp_path / 'a.safetensors'}", error=CheckpointError)
    assert str(tmp_path / "a.safetensors") in message
    listed = [line.strip() for line in message.splitlines() if line.startswith("  ")]
    assert listed == [
        "extra: layers.3.weight",
        "misshapen: layers.2.weight is (3, 8), the model has (10, 8)",
        "missing: layers.0.bias",
    ]
    assert "model.depth" in message


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_checkpoint(keep, checkpoint, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = message_of(tmp_path, f"model.weights={path}", error=CheckpointError)
    assert str(path) in message and "cannot be read as safetensors" in message


def test_checkpoint_of_another_depth(tmp_path):
    save_checkpoint(MLP(width=8, depth=1).build((8, 8, 1), 10, rngs=nnx.Rngs(0)), tmp_path / "a.safetensors")
    message = message_of(tmp_path, f"model.weights={tmp_path / 'a.safetensors'}", error=CheckpointError)
    assert "missing: layers.2.weight" in message


def test_missing_weights_name_both_ways_to_them(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    message = message_of(tmp_path, "experiment=ptq_cifar10", "model=resnet", error=CheckpointError)
    train, convert = "experiment=float_cifar10 model.weights=null", "qresearch import-torch FILE -o"
    for part in ("resnet20_cifar10.safetensors", str(tmp_path), VARIABLE, train, convert):
        assert part in message


def test_data_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    message = message_of(tmp_path, "data=mnist", error=DataError)
    assert all(part in message for part in ("mnist.npz", str(tmp_path / "nothing"), VARIABLE))


def test_corrupt_data(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"PK half of a download")
    message = message_of(tmp_path, "data=mnist", error=DataError)
    assert str(tmp_path / "mnist.npz") in message and re.search("checksum|sha256", message, re.IGNORECASE)


def test_a_failure_is_recorded_whatever_the_configuration(tmp_path):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", ["act.bits=${weight.bitz}"])
    job = sweep_job(cfg, ["act.bits=${weight.bitz}"], tmp_path)
    assert isinstance(job.problem, ConfigError) and "weight.bitz" in str(job.problem) and job.cell is None
    record = _failure(job, job.problem)
    assert record["config"]["act"]["bits"] == "${weight.bitz}" and record["message"] == str(job.problem)
    assert record["overrides"] == ["act.bits=${weight.bitz}"] and job.folder == tmp_path / job.name


def qresearch(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "qresearch.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_run_says_it_in_one_line_and_exits_with_1(tmp_path):
    done = qresearch(tmp_path, "run", "tracker=none", "weight.bits=17")
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1
    assert len(said) == 1 and re.fullmatch(r"error: rules\.every: weight\.bits=17 is outside 1\.\.16, .*", said[0])
    (path,) = tmp_path.glob("runs/*/result.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed" and "bits=17" in record["message"]
    assert record["config"]["weight"]["bits"] == 17
    assert not (tmp_path / "runs" / "baselines").exists()


def test_a_wrong_key_says_it_without_a_traceback_and_exits_with_1(tmp_path):
    done = qresearch(tmp_path, "run", "tracker=none", "weight.bit=4")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "weight.bit" in said and "Traceback" not in said
    assert not list(tmp_path.glob("runs/*/result.json"))


@pytest.mark.parametrize(
    ("spans", "message", "left"),
    [
        ("seed=range(0,0)", "seed: the axis spans no value; give at least one.", False),
        ("seed=choice()", "'choice()': empty choice is not legal", False),
        (
            "seed=range(0,101) weight.bits=4,8 optim.learning_rate=range(1,51)",
            "10,100 cells (seed: 101, weight.bits: 2, optim.learning_rate: 50) are more than 10,000; "
            "say sweep.yes=true if you mean them.",
            False,
        ),
        ("weight.bit=4,8", "Could not override 'weight.bit'.", True),
        ("weight.bits=4,8 model=cnn,vgg", "Could not find 'model/vgg'", True),
        ("weight.bits=4,eight", "Error merging override weight.bits=eight", True),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_as_a_whole(spans, message, left, tmp_path):
    """Exit code 1 and no traceback. Hydra has written down what it was asked by the time that cells are composed."""
    done = qresearch(tmp_path, "sweep", "tracker=none", *spans.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr and "Traceback" not in done.stderr and "Warning" not in done.stderr
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert files == (["multirun.yaml"] if left else [])


def test_as_many_cells_as_anybody_means_are_let_through():
    """With sweep.yes=true; and 10,000 always."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        asked, given = (hydra.compose("config", words) for words in (["sweep.yes=true"], []))
    check_span(["seed=range(0,10001)"], {}, asked)
    check_span(["seed=range(0,100)", "weight.bits=range(0,100)"], {}, given)
    check_span(["seed=0,1"], {"weight.bits": "2,4"}, given)
    for arguments, params in ((["seed=range(0,10001)"], {}), (["seed=range(0,100)"], {"weight.bits": "range(0,101)"})):
        with pytest.raises(CompactHydraException, match=r"cells \(.*seed: 1000?1?.* are more than 10,000"):
            check_span(arguments, params, given)
