"""The command `qresearch`: every front leads where it says, and nothing heavy is imported before it is needed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import qresearch.run
from qresearch import cli
from qresearch.reports import demo
from qresearch.reports.sweep_summary import SweepSummary

COMMANDS = ("run", "sweep", "demo", "import-torch")


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
    assert called == [["seed=1", "weight.bits=4"], ["--multirun", "seed=1,2"]]


def test_demo_sweeps_its_experiment_and_shows_the_folder(monkeypatch, called):
    shown = []
    monkeypatch.setattr(demo, "show_demo", shown.append)
    command(monkeypatch, "demo", "seed=0")
    ((multirun, experiment, folder, *rest),) = called
    assert (multirun, experiment, rest) == ("--multirun", "experiment=demo", ["seed=0"])
    assert folder == f"hydra.sweep.dir={shown[0]}"


def test_import_torch_gets_its_arguments(monkeypatch):
    seen = []
    monkeypatch.setattr("qresearch.models.import_torch.main", seen.append)
    command(monkeypatch, "import-torch", "a.th", "-o", "b.safetensors")
    assert seen == [["a.th", "-o", "b.safetensors"]]


@pytest.mark.parametrize("sweeping", [True, False])
def test_ctrl_c_shows_what_has_finished_and_exits_with_130(sweeping, monkeypatch, capsys):
    closed = []

    def interrupted():
        if sweeping:
            summary = SweepSummary()
            summary.close = lambda: closed.append(summary)
            monkeypatch.setattr(SweepSummary, "active", summary)
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
