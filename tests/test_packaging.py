"""What is shipped: the lock, the wheel, the first step of make, and no trace of one machine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
# One entry per requirement: its first line, and the indented hashes and remarks below it.
ENTRIES = re.findall(r"^[^#\s].*\n(?:[ ].*\n)*", LOCK, flags=re.MULTILINE)


def locked_requirements() -> list[Requirement]:
    return [Requirement(entry.partition("\\")[0].strip()) for entry in ENTRIES]


def files_of_checkout() -> list[Path]:
    """The files that are committed, or would be by `git add .`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_lock_holds_no_address():
    assert not re.findall(r".*(?:://|^-|\bfile:).*", LOCK, flags=re.MULTILINE)


def test_lock_pins_and_hashes_every_requirement():
    assert len(ENTRIES) > 50
    for entry in ENTRIES:
        assert re.match(r"[a-z0-9.-]+==\S+ ", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_lock_satisfies_the_project(python):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    locked = {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in locked_requirements()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        wanted = Requirement(line)
        version = locked.get(canonicalize_name(wanted.name))
        assert version and version in wanted.specifier, f"{line}, locked {version}; run `make lock`."


def test_lock_leaves_accelerators_and_torch_out():
    names = {requirement.name for requirement in locked_requirements()}
    assert not {name for name in names if re.match(r"torch|triton|nvidia|jax-cuda|libtpu", name)}


def test_wheel_holds_the_package_with_its_configs_and_experiments(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in held} == {
        "qresearch",
        "hydra_plugins",  # where Hydra looks for launchers and sweepers
        f"qresearch-{PROJECT['version']}.dist-info",
    }
    for path in files_of_checkout():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("configs/", "experiments/")):
            assert f"qresearch/{name}" in held
        elif name.startswith(("qresearch/", "hydra_plugins/")):
            assert name in held


def test_no_file_names_a_machine_or_a_registry():
    folder = rb"(?<![\w.~$)}/-])/(?:work|root|home|opt|Users|tmp)/\w"
    host = rb"\b(?:pypi|pythonhosted|npmjs|debian|ubuntu|conda)\.(?:org|com|io)\b"
    found = {}
    for path in files_of_checkout():
        content = path.read_bytes()
        if b"\0" not in content and (match := re.search(folder + b"|" + host, content)):
            found[str(path.relative_to(ROOT))] = match.group()
    assert not found


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("version_info", r"qresearch needs Python 3\.11 or newer, and \S+ is \S+\. Name another: .*"),
        ("ensurepip", r"\S+ cannot make virtual environments\. On Debian and Ubuntu: .*"),
    ],
)
def test_setup_says_what_the_machine_lacks(tmp_path, lacking, message):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{lacking}*) exit 1;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    make = ["make", "--no-print-directory", "setup", f"PYTHON={python}"]
    environment = os.environ | {"MAKEFLAGS": ""}  # these tests may themselves run under make
    result = subprocess.run(make, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert re.fullmatch(message, result.stdout.strip())
    assert not (tmp_path / ".venv").exists()
