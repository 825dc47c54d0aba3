"""The floors of the house: imports go downwards only, read from the source of every module."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qresearch"
FLOORS = {
    "core": 0,
    "grids": 1,
    "estimators": 1,
    "observers": 1,
    "quantizers": 2,
    "ptq": 2,
    "nn": 3,
    "replacing": 3,  # writes files, which nothing below needs
    "graph": 4,
    "models": 5,
    "data": 5,
    "passes": 5,
    "training": 5,
    "evaluation": 5,
    "theory": 5,
    "store": 6,
    "export": 6,
    "compose": 6,
    "config": 6,
    "compilation": 6,
    "reports": 7,
    "tables": 8,
    "methods": 8,
    "cells": 8,
    "deploy": 9,
    "execute": 9,
    "run": 10,
    "sweep": 10,
    "cli": 11,
}
PATHS = sorted(PACKAGE.rglob("*.py"))
LOWEST = [path for path in PATHS if FLOORS.get(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), 6) <= 2]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_name(module: str) -> str:
    """The folder, or the module itself where it lies at the top."""
    return module.split(".")[1]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; say qresearch.{node.module}"
            assert node.module is not None
            # `from qresearch.core import spec` names a module; `from qresearch.core.spec import QuantSpec` does not.
            inside = PACKAGE.parent.joinpath(*node.module.split("."))
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if inside.is_dir() else {node.module}
    return found


def violations(path: Path) -> list[str]:
    """What a file imports from its own height or above, its own folder apart."""
    module, wrong = module_of(path), []
    for other in imports(path):
        if other.split(".")[0] != "qresearch" or "." not in other:
            continue
        below, above = floor_name(other), floor_name(module)
        if below != above and FLOORS[below] >= FLOORS[above]:
            wrong.append(f"{module} (floor {FLOORS[above]}) imports {other} (floor {FLOORS[below]})")
    return wrong


def test_every_folder_and_top_module_has_a_floor():
    names = {floor_name(module_of(path)) for path in PATHS if module_of(path) != "qresearch"}
    assert len(names) > 10 and names <= FLOORS.keys()


def test_imports_go_downwards():
    assert [line for path in PATHS if module_of(path) != "qresearch" for line in violations(path)] == []


@pytest.mark.parametrize("path", LOWEST, ids=module_of)
def test_the_lowest_floors_are_jax_and_nothing_else(path):
    allowed = {"jax", "numpy", "jaxtyping", "qresearch"} | sys.stdlib_module_names
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def test_models_know_nothing_of_quantization():
    for path in (PACKAGE / "models").rglob("*.py"):
        names = {floor_name(name) for name in imports(path) if name.startswith("qresearch.")}
        assert names <= {"models", "replacing"}, path


def test_packages_say_nothing_when_they_are_imported():
    assert [path for path in PATHS if path.name == "__init__.py" and path.read_text()] == []


def test_a_wrong_import_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "qresearch")
    for folder in ("core", "observers", "quantizers", "nn", "training", "evaluation"):
        (tmp_path / "qresearch" / folder).mkdir(parents=True)
    lines = {
        "core/a.py": "import qresearch.nn.slots",
        "training/b.py": "def f():\n    from qresearch.evaluation.accuracy import accuracy",
        "quantizers/c.py": "from qresearch.observers.observer import Observer",
        "quantizers/d.py": "from qresearch.ptq import rtn",
        "nn/e.py": "from qresearch.core.spec import QuantSpec\nfrom qresearch.nn.slots import slots",
    }
    found = {}
    for name, text in lines.items():
        path = tmp_path / "qresearch" / name
        path.write_text(text)
        found[name] = len(violations(path))
    assert found == {"core/a.py": 1, "training/b.py": 1, "quantizers/c.py": 0, "quantizers/d.py": 1, "nn/e.py": 0}
