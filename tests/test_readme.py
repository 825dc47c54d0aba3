"""What the README shows runs as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from qresearch.cells.cell import prepare
from qresearch.cells.compute import run_cells
from qresearch.config.check import check
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.data.source import VARIABLE
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.slots import slots
from qresearch.store.shared import Shared

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_python_use():
    """The array is quantized within half a step, and both layers of the model are."""
    names: dict = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    q = names["q"]
    assert q.codes.dtype == jnp.int8 and int(jnp.max(jnp.abs(q.codes))) == 7
    assert np.all(np.abs(names["error"]) <= np.asarray(q.scale) / 2 * (1 + 1e-5))
    occupants = [slot.occupant for slot in slots(names["quantized"]).values()]
    assert len(occupants) == 2 and all(isinstance(occupant, FakeQuant) for occupant in occupants)
    assert not any(isinstance(slot.occupant, FakeQuant) for slot in slots(names["model"]).values())


def test_a_method_is_one_file_and_one_yaml(tmp_path, monkeypatch):
    """The observer of the README, as one module and one yaml, runs in a cell and does what it says."""
    module, yaml = blocks("python")[1], blocks("yaml")[0]
    (tmp_path / "sigmas.py").write_text(module)
    (tmp_path / "configs" / "observer").mkdir(parents=True)
    target = yaml.replace("qresearch.observers.sigmas.Sigmas", "sigmas.Sigmas")
    (tmp_path / "configs" / "observer" / "sigmas.yaml").write_text(target)
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = [
        f"hydra.searchpath=[file://{tmp_path / 'configs'}]",
        "observer@act.observer=sigmas",
        "act.observer.sigmas=2.5",
        "model=mlp",
        "model.width=8",
        "baseline.epochs=1",
        "tracker=none",
    ]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = check(compose("config", overrides))
    (outcome,) = run_cells([prepare(cfg)], Shared(tmp_path), lambda *_: None)
    assert outcome.status == "finished"
    assert {row["observer"] for row in outcome.audit if row["tensor"] == "input"} == {"Sigmas"}

    observer = sys.modules["sigmas"].Sigmas(2.5)
    spec = prepare(cfg).rules["layers.0"].weight.spec.with_sign(True)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    scale, _ = observer.resolve(observer.measure(jnp.asarray(x), contract=(0,), spec=spec), spec)
    np.testing.assert_allclose(scale[0], 2.5 * np.sqrt(np.mean(x**2, axis=0)) / 127, rtol=1e-5)


@pytest.mark.parametrize("name", re.findall(r"`(qresearch/[\w/]+\.py|tests/[\w/]+\.py)`", README))
def test_named_files_exist(name):
    assert (Path(__file__).parent.parent / name).is_file()


COMMANDS = re.findall(r"^qresearch (?:run|sweep) .+?(?=\n\S|\n```)", README.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_ready_to_run(command):
    """The first cell of each run and sweep composes, builds and fits its model."""
    words = shlex.split(command, comments=True)[2:]
    if "cifar10" in command and not os.environ.get(VARIABLE):
        pytest.skip(f"the weights are looked for in {VARIABLE}")
    if "sigmas" in command:
        return  # the method of the section on adding one
    engine = [word for word in words if word.startswith("sweep=")]  # an extra, which changes no cell
    assert all((CONFIG_FOLDER / "sweep" / f"{word.removeprefix('sweep=')}.yaml").is_file() for word in engine)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        parsed = OverridesParser.create().parse_overrides([word for word in words if word not in engine])
        ((first, *_),) = BasicSweeper.split_arguments(parsed, None)  # all cells in one batch
        assert prepare(check(compose("config", first))).layers


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_typed(command):
    """A shell takes brackets and the like for its own."""
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
