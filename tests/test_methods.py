"""`qresearch methods` lists what the folders hold, each with its summary and its paper."""

import importlib
import inspect
import pkgutil

import pytest

from qresearch import cli
from qresearch.methods import GROUPS, methods, paper

FOUND = methods()
# Where the code of each group lies, and a method that tells its classes from what helps them.
CODE = {"format": ("grids", "round"), "estimator": ("estimators", "pull"), "quantizer": ("quantizers", "apply"),
        "observer": ("observers", "resolve"), "ptq": ("ptq", "solve")}  # fmt: skip
# Rules so old or so plain that no paper introduced them.
WITHOUT_PAPER = {"float32", "levels", "static", "dynamic", "absmax", "rtn"}


@pytest.mark.parametrize("group", GROUPS)
def test_every_class_of_a_folder_is_listed(group):
    folder, method = CODE[group]
    package = importlib.import_module(f"qresearch.{folder}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for name, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = cls.__module__ == module.name and not getattr(cls, "_is_protocol", False)
            if own and callable(getattr(cls, method, None)):
                assert f"{module.name}.{name}" in [entry.target for entry in FOUND if entry.group == group]


@pytest.mark.parametrize("entry", FOUND, ids=lambda entry: f"{entry.group}={entry.name}")
def test_a_summary_and_a_paper(entry):
    assert entry.summary.endswith((".", "…")) and not entry.summary.startswith("#")
    assert (entry.paper == "") == (entry.name in WITHOUT_PAPER)


def test_citations_are_read_as_they_are_written():
    assert paper(
        'X.\n\nEsser, McKinstry, Bablani,\nModha, "Learned Step Size\nQuantization", ICLR 2020,\narXiv:1902.08153.'
    ) == ("Esser et al. 2020, arXiv:1902.08153")
    assert paper(
        'Max, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960, for N'
    ) == ("Max 1960")
    assert paper("A rule without a source.") == ""


def test_the_command_prints_every_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["qresearch", "methods"])
    cli.main()
    said = capsys.readouterr().out
    for entry in FOUND:
        assert f" {entry.name} " in said
    assert "arXiv:1902.08153" in said and "estimator@weight.estimator=NAME" in said


def test_it_takes_no_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["qresearch", "methods", "lsq"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2 and "['lsq']" in capsys.readouterr().err
