"""The command `qresearch`: every front leads where it says, and nothing heavy is imported before it is needed."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import qresearch.run
from qresearch import cli
from qresearch.cli import sweep_name
from qresearch.reports import demo
from qresearch.reports.sweep_display import SweepDisplay

COMMANDS = ("run", "sweep", "demo", "methods", "table", *cli.MODULES)


@pytest.fixture
def called(monkeypatch):
    """What the program behind `run`, `sweep` and `demo` gets as its command line."""
    seen = []
    monkeypatch.setattr(sys, "argv", ["qresearch"])
    monkeypatch.setattr(qresearch.run, "main", lambda: seen.append(sys.argv[1:]))
    return seen


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["qresearch", *arguments])
    cli.main()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_has_a_line_for_every_command(arguments, monkeypatch, capsys):
    command(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: qresearch")
    for name in COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    assert all(len(line) < 120 for line in lines)


def test_an_unknown_command_is_named_and_shows_the_others(monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, "swep", "seed=1")
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == ""
    assert "'swep'" in said.err and all(name in said.err for name in COMMANDS)


def test_run_and_sweep_are_the_same_program(monkeypatch, called):
    command(monkeypatch, "run", "seed=1", "weight.bits=4")
    command(monkeypatch, "sweep", "seed=1,2")
    assert called == [["seed=1", "weight.bits=4"], ["--multirun", "seed=1,2", f"sweep.name={sweep_name(['seed=1,2'])}"]]


def test_a_sweep_is_named_by_what_it_varies():
    name = sweep_name(["seed=1,2", "weight.bits=4"])
    assert re.fullmatch("sweep_[0-9a-f]{8}", name)
    assert sweep_name(["weight.bits=4", "seed=1,2"]) == name
    for other in ("tracker=none", "runs_dir=elsewhere", "sweep.force=true", "++sweep.stack=on", "hydra.verbose=true"):
        assert sweep_name(["seed=1,2", "weight.bits=4", other]) == name
    for other in ("hydra/launcher=joblib", "sweep=joblib", "tracker.project=mine"):
        assert sweep_name([other, "seed=1,2", "weight.bits=4"]) == name
    others = (["seed=1,2"], ["seed=1,2,3", "weight.bits=4"], ["seed=1,2", "weight.bits=4", "+rules.every.float=true"])
    assert len({name, *(sweep_name([*words]) for words in others)}) == 1 + len(others)


@pytest.mark.parametrize("given", ["sweep.name=mine", "++sweep.name=mine", "hydra.sweep.dir=elsewhere"])
def test_a_name_that_is_given_stays(given, monkeypatch, called):
    command(monkeypatch, "sweep", "seed=1,2", given)
    assert called == [["--multirun", "seed=1,2", given]]


@pytest.mark.parametrize(("given", "folder"), [([], "runs/demo"), (["runs_dir=other"], "other/demo")])
def test_demo_sweeps_its_experiment_and_shows_the_folder(given, folder, monkeypatch, called):
    shown = []
    monkeypatch.setattr(demo, "show_demo", lambda *what: shown.append(what))
    monkeypatch.setattr(SweepDisplay, "found", [{"status": "finished"}])
    command(monkeypatch, "demo", "seed=0", *given)
    assert called == [["--multirun", "experiment=demo", "sweep.name=demo", "seed=0", *given]]
    assert shown == [(Path(folder), [{"status": "finished"}])]


@pytest.mark.parametrize("name", cli.MODULES)
def test_a_module_gets_its_arguments(name, monkeypatch):
    seen = []
    monkeypatch.setattr(f"{cli.MODULES[name]}.main", seen.append)
    command(monkeypatch, name, "a.th", "-o", "b.safetensors")
    assert seen == [["a.th", "-o", "b.safetensors"]]


@pytest.mark.parametrize("sweeping", [True, False])
def test_ctrl_c_shows_what_has_finished_and_exits_with_130(sweeping, monkeypatch, capsys, tmp_path):
    closed = []

    def interrupted():
        if sweeping:
            display = SweepDisplay(tmp_path, 2)
            monkeypatch.setattr(display, "close", lambda: closed.append(display))
            monkeypatch.setattr(SweepDisplay, "active", display)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(qresearch.run, "main", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, "run")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert caught.value.code == 130
    assert len(closed) == sweeping
    assert capsys.readouterr().err == "interrupted: finished cells are kept.\n"


def test_help_imports_neither_jax_nor_hydra():
    code = (
        "import sys, qresearch.cli; qresearch.cli.main(); sys.exit(bool({'jax', 'hydra', 'rich'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True, stdout=subprocess.DEVNULL)
