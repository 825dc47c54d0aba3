"""A record is there whole or not at all, holds no NaN, and says where it was made; what is no record is told of."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from qresearch.store import record
from qresearch.store.full_disk import StoreError
from qresearch.store.record import RecordError, environment, read_record, read_records, write_json

ROOT = Path(__file__).parents[2]


def one(**changes):
    """A record of schema 2."""
    return {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {"weight": {"bits": 4}, "name": "µ"},
        "config_hash": "0123456789ab",
        "overrides": ["weight.bits=4"],
        "group": "0a1b2c3d",
        "metrics": {"top1": 91.73, "test_images": 297, "programs": 3, "stacked": 16},
        "layers": [{"layer": "conv", "tensor": "weight", "sqnr_db": 30.0}],
        "environment": {"device": "cpu"},
        "finished_at": "2026-11-23T12:00:00+00:00",
    } | changes


def older():
    """The same as one of schema 1, as it was written."""
    found = one(schema=1, metrics={"top1": 91.73, "programs": 3})
    return {key: value for key, value in found.items() if key not in ("overrides", "finished_at")}


def test_written_and_read(tmp_path):
    path = tmp_path / "new" / "folder" / "result.json"
    write_json(path, one())
    assert json.loads(path.read_text()) == one()
    assert read_record(path) == one()
    assert read_records(tmp_path) == [one() | {"path": str(path)}]


def test_schema_1_is_read_and_what_it_lacks_is_filled_in(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, older())
    os.utime(path, (0, 1_700_000_000))
    found = read_record(path)
    assert (found["overrides"], found["finished_at"]) == ([], "2023-11-14T22:13:20+00:00")
    assert found["metrics"] == {"top1": 91.73, "programs": 3, "stacked": 1}  # it does not know its test_images


def test_a_failed_cell_has_nothing_computed(tmp_path):
    kept = {key: one()[key] for key in ("schema", "message", "config", "environment", "overrides", "finished_at")}
    failed = kept | {"status": "failed", "metrics": {}}
    write_json(tmp_path / "result.json", failed)
    assert read_record(tmp_path / "result.json") == failed


BROKEN = {
    "truncated": (json.dumps(one())[:100], "cannot be read"),
    "empty": ("", "cannot be read"),
    "zeros": ("\0" * 4096, "cannot be read"),
    "nested": ("[" * 100_000, "cannot be read"),
    "nan": (json.dumps(one(metrics={"top1": float("nan")})), "NaN is no number"),
    "list": ("[1, 2]", "no record of qresearch"),
    "another tool's": ('{"accuracy": 0.9}', "no record of qresearch"),
    "schema 3": (json.dumps(one(schema=3)), "has schema 3, and this version reads 1 and 2"),
    "schema true": (json.dumps(one(schema=True)), "has schema True"),
    "schema 2.0": (json.dumps(one(schema=2.0)), "has schema 2.0"),
    "status": (json.dumps(one(status="done")), "the status 'done', which is none of finished"),
    "no metrics": (json.dumps({key: value for key, value in one().items() if key != "metrics"}), "lacks metrics"),
    "no hash": (json.dumps({key: value for key, value in one().items() if key != "config_hash"}), "lacks config_hash"),
    "config": (json.dumps(one(config=[1])), "lacks config"),
    "hash": (json.dumps(one(status="failed", config_hash=12)), "lacks config_hash"),
    "text": (json.dumps(one(metrics={"top1": "91"})), "metrics that are no numbers: top1"),
    "huge": (json.dumps(one(metrics={"top1": 1}))[:-1].replace('"top1": 1', '"top1": 1e999') + "}", "numbers: top1"),
    "layer": (json.dumps(one(layers=[{"tensor": "weight"}])), "rows of layers"),
    "layers": (json.dumps(one(status="failed", layers="all")), "lacks layers"),
}


@pytest.mark.parametrize("text, says", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_record_is_told_of_skipped_and_kept(text, says, tmp_path, caplog):
    write_json(tmp_path / "good" / "result.json", one())
    path = tmp_path / "bad" / "result.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RecordError, match=says) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{caught.value.what} It stays as it is; ")
    assert caught.value.what.startswith(f"{path} ") and caught.value.what.endswith(".")
    told = []
    (found,) = read_records(tmp_path, told.append)
    assert found["path"] == str(tmp_path / "good" / "result.json")
    assert told == [str(caught.value)] and path.read_text() == text
    assert len(read_records(tmp_path)) == 1 and caplog.messages == told


def test_a_record_that_is_not_there_is_no_broken_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "result.json")


def test_a_folder_that_cannot_be_listed_is_told_of(tmp_path, monkeypatch):
    write_json(tmp_path / "a" / "result.json", one())
    write_json(tmp_path / "b" / "result.json", one())
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told = []
    assert len(read_records(tmp_path, told.append)) == 1
    assert told == [f"{tmp_path / 'b'} cannot be listed (Permission denied): the records in it are left out."]


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
    for name in ("10", "9", "a", "2", "²"):
        write_json(tmp_path / name / "result.json", one(message=name))
    (tmp_path / "11").mkdir()
    (tmp_path / "11" / "result.json.x.part").write_text("{")
    (tmp_path / "11" / "curves.json").write_text("{}")
    assert [found["message"] for found in read_records(tmp_path)] == ["2", "9", "10", "a", "²"]
    assert read_records(tmp_path / "none") == []


def test_hidden_folders_and_runs_of_wandb_are_not_looked_into_but_a_sweep_may_be_called_wandb(tmp_path):
    for place in ("wandb/0123456789ab", "run-1", "a/wandb/offline-run-1-x/files", "a/wandb/run-1-x", "a/.hydra"):
        write_json(tmp_path / place / "result.json", one(message=place))
    assert [found["message"] for found in read_records(tmp_path)] == ["run-1", "wandb/0123456789ab"]


FULL = """
import shutil, sys
from pathlib import Path
from qresearch.store.full_disk import StoreError
from qresearch.store.index import collect
from qresearch.store.record import read_record, write_json

folder = Path(sys.argv[1])
small = read_record(Path(sys.argv[2]))
write_json(folder / "0" / "result.json", small)
print(collect(folder).new)
for path in (folder / "0" / "result.json", folder / "1" / "result.json"):
    try:
        write_json(path, small | {"message": "x" * 400_000})
    except StoreError as error:
        print(error)
print([str(path.relative_to(folder)) for path in folder.glob("*/*")], read_record(folder / "0/result.json") == small)
write_json(folder / "1" / "result.json", small)
(folder / "filler").write_bytes(b"x" * shutil.disk_usage(folder).free)
try:
    collect(folder)
except StoreError as error:
    print(error)
(folder / "filler").unlink()
new, kept, *_ = collect(folder)
print(new + kept)
"""


def test_a_disk_that_really_is_full(tmp_path):
    """On a disk of 240 kB in memory, which needs a user namespace."""
    (tmp_path / "disk").mkdir()
    write_json(tmp_path / "small.json", one())
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    disk = f"mount -t tmpfs -o size=240k none '{tmp_path}/disk'"
    if not shutil.which("unshare") or subprocess.run([*mount, disk], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    (tmp_path / "full.py").write_text(FULL)
    program = f"{disk} && exec '{sys.executable}' '{tmp_path}/full.py' '{tmp_path}/disk' '{tmp_path}/small.json'"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*mount, program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *told, whole, index, last = done.stdout.splitlines()
    assert first == "1" and last == "2"
    for name, line in zip("01", told, strict=True):
        assert f"disk/{name}/result.json was not written: No space left on device, 0." in line
        assert "What was kept before is whole. Free some space" in line
    assert whole == "['0/result.json'] True"
    assert "disk/index.sqlite was not written: d" in index and " 0.0 MB free there" in index


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_named_with_what_is_free_and_what_to_do(number, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=rf"{path} was not written: {os.strerror(number)}, [\d,.]+ MB free") as caught:
        write_json(path, {"new": 2})
    assert caught.value.errno == number and "give the same command again" in str(caught.value)
    assert json.loads(path.read_text()) == {"old": 1} and list(tmp_path.iterdir()) == [path]


@pytest.fixture(autouse=True)
def asked_anew():
    """Each test asks the machine and git itself."""
    for cached in (record._machine, record._versions, record._git):
        cached.cache_clear()
    yield
    record._git.cache_clear()


def test_environment_names_versions_device_and_commit():
    found = environment()
    assert found["versions"]["jax"] == jax.__version__ and "flax" in found["versions"]
    assert found["backend"] == jax.default_backend() and found["cpus"] == os.cpu_count()
    json.dumps(found, allow_nan=False)


def test_commit_is_that_of_the_source_and_dirty_when_it_was_changed(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    def state():
        record._git.cache_clear()
        return environment()["git_commit"], environment()["git_dirty"]

    source = tmp_path / "qresearch" / "store" / "record.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(record, "__file__", str(source))
    assert state() == (None, None)
    source.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD").stdout.strip()
    assert state() == (commit, False)
    (tmp_path / "demo.html").write_text("a report")
    assert state() == (commit, False)
    (tmp_path / "qresearch" / "new_method.py").write_text("")
    assert state() == (commit, True)
    (tmp_path / "qresearch" / "new_method.py").unlink()
    source.write_text("2")
    assert state() == (commit, True)


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None


def test_git_is_asked_once_a_process_and_who_changes_the_answer_keeps_the_change(monkeypatch):
    asked = []

    def answer(folder, *arguments):
        asked.append(arguments[0])
        return "abc"

    monkeypatch.setattr(record, "_run_git", answer)
    first = environment()
    first["versions"]["jax"] = first["git_commit"] = "changed"
    assert environment()["git_commit"] == "abc" and environment()["versions"]["jax"] == jax.__version__
    assert asked == ["rev-parse", "status"]
