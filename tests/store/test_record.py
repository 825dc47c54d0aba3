"""A record is there whole or not at all, holds no NaN, and says where it was made."""

import json
import os
import subprocess

import jax
import pytest

from qresearch.store import record
from qresearch.store.record import environment, read_records, write_json


def test_written_and_read(tmp_path):
    content = {"metrics": {"top1": 91.73, "programs": 3}, "message": None, "config": {"name": "µ"}}
    write_json(tmp_path / "new" / "folder" / "result.json", content)
    assert json.loads((tmp_path / "new" / "folder" / "result.json").read_text()) == content
    (found,) = read_records(tmp_path)
    assert found == content | {"path": str(tmp_path / "new" / "folder" / "result.json")}


@pytest.mark.parametrize("broken", ["json.dumps", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(broken, error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(broken, fail)
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
    write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"new": 2}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused(number, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "result.json", {"loss": number})
    assert list(tmp_path.iterdir()) == []


def test_a_record_may_be_read_by_whoever_may_read_a_plain_file(tmp_path):
    (tmp_path / "plain").touch()
    write_json(tmp_path / "result.json", {})
    assert (tmp_path / "result.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_records_come_in_the_order_of_their_folders_and_half_written_ones_do_not(tmp_path):
    for name in ("10", "9", "a", "2"):
        write_json(tmp_path / name / "result.json", {"name": name})
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "result.json.x.part").write_text("{")
    (tmp_path / "11" / "curves.json").write_text("{}")
    assert [found["name"] for found in read_records(tmp_path)] == ["2", "9", "10", "a"]
    assert read_records(tmp_path / "none") == []


def test_environment_names_versions_device_and_commit():
    found = environment()
    assert found["versions"]["jax"] == jax.__version__ and "flax" in found["versions"]
    assert found["backend"] == jax.default_backend() and found["cpus"] == os.cpu_count()
    json.dumps(found, allow_nan=False)


def test_commit_is_that_of_the_source_and_dirty_when_it_was_changed(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    assert (environment()["git_commit"], environment()["git_dirty"]) == (None, None)
    (tmp_path / "record.py").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD").stdout.strip()
    assert (environment()["git_commit"], environment()["git_dirty"]) == (commit, False)
    (tmp_path / "record.py").write_text("2")
    assert (environment()["git_commit"], environment()["git_dirty"]) == (commit, True)


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None
