"""The index says what the records say: added, changed, broken or removed, and whoever collects beside us."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qresearch.store import index
from qresearch.store.full_disk import StoreError
from qresearch.store.index import Collected, collect, flat, indexed
from qresearch.store.record import read_records, write_json

ROOT = Path(__file__).parents[2]
MACHINE = {"git_commit": "abc", "git_dirty": False, "device": "cpu", "versions": {"jax": "0.10.2"}}


def record(number, **changes):
    """A record with all the parts that the index keeps, and some that it does not."""
    row = {"layer": "conv", "mse": 1e-3, "codes_used": 9}
    return {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {"weight": {"bits": 4, "grid": {"signed": None}}, "rules": {"every": {"act": {}}}, "seed": number},
        "config_hash": f"{number:012x}",
        "overrides": [f"seed={number}", "weight.bits=4"],
        "group": "0a1b2c3d",
        "metrics": {"top1": 90 + number / 7, "size_bytes": 2**40, "stacked": 1},
        "layers": [
            row | {"tensor": "weight", "sqnr_db": 20.5, "mse_clip": 1e-4, "mse_round": 9e-4},
            row | {"tensor": "output", "sqnr_db": None},
        ],
        "environment": MACHINE | {"cpus": 2},
        "finished_at": "2026-11-23T12:00:00+00:00",
    } | changes


def cell(folder, number, **changes):
    path = folder / "sweep" / f"{number:012x}" / "result.json"
    write_json(path, record(number, **changes))
    return path


def tops(folder):
    return {row["path"]: row["metrics"]["top1"] for row in indexed(folder)}


def true_tops(folder):
    return {str(Path(r["path"]).relative_to(folder)): r["metrics"]["top1"] for r in read_records(folder, str)}


def test_a_row_is_what_a_report_needs_of_a_record(tmp_path):
    cell(tmp_path, 3)
    assert collect(tmp_path) == Collected(new=1, kept=0, removed=0, bad=[])
    assert indexed(tmp_path) == [
        {
            "path": "sweep/000000000003/result.json",
            "status": "finished",
            "message": None,
            "group": "0a1b2c3d",
            "config_hash": "000000000003",
            "config": {"weight.bits": 4, "weight.grid.signed": None, "seed": 3},
            "overrides": ["seed=3", "weight.bits=4"],
            "metrics": {"top1": 90 + 3 / 7, "size_bytes": 2**40, "stacked": 1},
            "layers": {
                "conv": {
                    "weight": {"sqnr_db": 20.5, "mse_clip": 1e-4, "mse_round": 9e-4},
                    "output": {"sqnr_db": None, "mse_clip": None, "mse_round": None},
                }
            },
            "environment": MACHINE,
            "finished_at": "2026-11-23T12:00:00+00:00",
        }
    ]


def test_a_failed_cell_has_a_row_too(tmp_path):
    config = {"weight": {"bits": "${act.bits}"}, "seed": "???"}
    failed = {"schema": 2, "status": "failed", "message": "no \ud800 b\0its", "config": config, "metrics": {}}
    write_json(tmp_path / "x" / "result.json", failed | {"environment": {}})
    assert collect(tmp_path).new == 1
    (row,) = indexed(tmp_path)
    assert (row["status"], row["message"], row["group"]) == ("failed", "no \\ud800 b\0its", None)
    assert (row["config"], row["layers"], row["metrics"]) == ({"weight.bits": "${act.bits}", "seed": "???"}, {}, {})
    assert row["environment"] == dict.fromkeys(MACHINE)


def test_flat():
    assert flat({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": None}) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": None}
    assert flat({}) == {}


def test_a_shell_can_ask_too(tmp_path):
    for number in range(5):
        cell(tmp_path, number)
    collect(tmp_path)
    ask = "SELECT path FROM records WHERE json_extract(metrics, '$.top1') > 90.3 AND json_extract(config, '$.seed') < 4"
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as opened:
        assert sorted(path[-13:-12] for (path,) in opened.execute(ask)) == ["3"]
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_added_changed_removed_and_once_more(tmp_path):
    paths = [cell(tmp_path, number) for number in range(6)]
    assert collect(tmp_path) == Collected(6, 0, 0, [])
    assert collect(tmp_path) == Collected(0, 6, 0, [])
    cell(tmp_path, 6)
    cell(tmp_path, 1, metrics={"top1": 12.5})
    shutil.rmtree(paths[2].parent)
    assert collect(tmp_path) == Collected(2, 4, 1, [])
    assert tops(tmp_path) == true_tops(tmp_path) and tops(tmp_path)["sweep/000000000001/result.json"] == 12.5
    assert collect(tmp_path) == Collected(0, 6, 0, [])
    stamp = paths[3].stat()
    write_json(paths[3], record(3, metrics={"top1": 80.0}))
    os.utime(paths[3], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # an older time, or the same, and another size
    assert collect(tmp_path).new == 1 and tops(tmp_path) == true_tops(tmp_path)
    shutil.rmtree(tmp_path / "sweep")
    assert collect(tmp_path) == Collected(0, 0, 6, []) and indexed(tmp_path) == []


def test_rows_come_in_the_order_of_their_folders(tmp_path):
    for name in ("10", "9", "a", "2", "b c", "µ\n"):
        write_json(tmp_path / name / "result.json", record(0))
    collect(tmp_path)
    assert [row["path"].split("/")[0] for row in indexed(tmp_path)] == ["2", "9", "10", "a", "b c", "µ\n"]


def test_a_broken_record_is_told_of_each_time_never_touched_and_taken_in_once_it_is_mended(tmp_path):
    paths = [cell(tmp_path, number) for number in range(3)]
    whole = paths[1].read_bytes()
    collect(tmp_path)
    paths[1].write_bytes(whole[:500])
    for _ in range(2):
        new, kept, removed, bad = collect(tmp_path)
        assert (new, kept, removed) == (0, 2, 0)
        assert len(bad) == 1 and bad[0].startswith(f"{paths[1]} cannot be read") and "run its cell again" in bad[0]
    assert paths[1].read_bytes() == whole[:500] and len(indexed(tmp_path)) == 2
    paths[1].write_bytes(whole)
    assert collect(tmp_path) == Collected(1, 2, 0, []) and tops(tmp_path) == true_tops(tmp_path)


def test_records_of_a_schema_to_come_are_refused_by_name(tmp_path):
    path = cell(tmp_path, 0, schema=3)
    (message,) = collect(tmp_path).bad
    assert message.startswith(f"{path} has schema 3, and this version reads 1 and 2.")


def test_a_name_that_is_not_in_utf_8_is_told_of(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    write_json(Path(os.fsdecode(folder)) / "result.json", record(0))
    cell(tmp_path, 1)
    new, _, _, bad = collect(tmp_path)
    assert new == 1 and len(bad) == 1 and "caf\\xe9/result.json: this name is not in UTF-8" in bad[0]


def test_a_record_that_goes_while_we_look_is_no_record(tmp_path, monkeypatch):
    path = cell(tmp_path, 0)
    cell(tmp_path, 1)
    monkeypatch.setattr(index, "record_paths", lambda *args: [path, tmp_path / "gone" / "result.json"])
    assert collect(tmp_path) == Collected(1, 0, 0, [])


def test_no_folder_and_no_index(tmp_path):
    with pytest.raises(StoreError, match="none: there is no such folder"):
        collect(tmp_path / "none")
    with pytest.raises(StoreError, match=r"index.sqlite: there is no such index; `qresearch collect .*` makes it"):
        indexed(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert collect(tmp_path) == Collected(0, 0, 0, []) and indexed(tmp_path) == []


def test_where_the_index_cannot_be_written_the_folder_is_named(tmp_path):
    (tmp_path / "index.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"index.sqlite cannot be written \(unable to open"):
        collect(tmp_path)
    shutil.rmtree(tmp_path / "index.sqlite")
    (tmp_path / "index.sqlite.lock").unlink()
    (tmp_path / "index.sqlite.lock").mkdir()
    with pytest.raises(StoreError, match=r"index.sqlite cannot be written \(.*directory"):
        collect(tmp_path)


def damage_header(path):
    path.write_bytes(b"no database at all, just text of some length" * 20)


def damage_pages(path):
    whole = bytearray(path.read_bytes())
    whole[4096 * 2 : 4096 * 4] = random.Random(0).randbytes(4096 * 2)
    path.write_bytes(whole)


def damage_length(path):
    os.truncate(path, 4096 + 100)


def empty(path):
    os.truncate(path, 0)


def age(path):
    with contextlib.closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_length, empty, age])
def test_an_index_that_is_of_no_use_is_made_anew_and_that_is_said(damage, tmp_path, caplog):
    for number in range(12):
        cell(tmp_path, number)
    collect(tmp_path)
    damage(tmp_path / "index.sqlite")
    with pytest.raises(StoreError, match=r"`qresearch collect .*` makes it anew"):
        indexed(tmp_path)
    assert collect(tmp_path) == Collected(12, 0, 0, [])
    assert caplog.messages == [
        f"{tmp_path / 'index.sqlite'} is damaged or of another version, and is made anew from the records."
    ]
    assert tops(tmp_path) == true_tops(tmp_path) and collect(tmp_path) == Collected(0, 12, 0, [])


def test_an_index_that_somebody_else_holds_is_not_thrown_away(tmp_path, monkeypatch):
    cell(tmp_path, 0)
    collect(tmp_path)
    monkeypatch.setattr(index, "BUSY_S", 0.2)
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        cell(tmp_path, 1)
        with pytest.raises(StoreError, match="cannot be written \\(database is locked\\)"):
            collect(tmp_path)
        assert len(indexed(tmp_path)) == 1  # who reads does not wait
        other.execute("ROLLBACK")
    assert collect(tmp_path) == Collected(1, 1, 0, [])


def test_who_waits_too_long_for_another_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "WAIT_S", 0.1)
    cell(tmp_path, 0)
    with (
        index._alone(tmp_path / "index.sqlite"),
        pytest.raises(StoreError, match=r"another process has been collecting for 0 s"),
    ):
        collect(tmp_path)
    assert collect(tmp_path).new == 1


COLLECTOR = """
import sys
from pathlib import Path
from qresearch.store.index import collect, indexed

for _ in range(int(sys.argv[2])):
    found = collect(Path(sys.argv[1]))
    assert not found.bad and len(indexed(Path(sys.argv[1]))) >= found.new + found.kept - 1, found
    print(found.new, flush=True)
"""


def start_collector(folder, rounds):
    command = [sys.executable, "-c", COLLECTOR, str(folder), str(rounds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("start", ["none", "damaged"])
def test_four_processes_that_collect_at_once_while_records_come(start, tmp_path):
    for number in range(40):
        cell(tmp_path, number)
    if start == "damaged":
        damage_header(tmp_path / "index.sqlite")
    processes = [start_collector(tmp_path, 15) for _ in range(4)]
    for number in range(40, 100):
        cell(tmp_path, number)
        time.sleep(0.005)
    taken = 0
    for process in processes:
        said, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        taken += sum(map(int, said.split()))
    last = collect(tmp_path)
    assert taken + last.new == 100  # each was taken in by one process, once
    assert (last.new + last.kept, last.removed, last.bad) == (100, 0, [])
    assert tops(tmp_path) == true_tops(tmp_path) and len(tops(tmp_path)) == 100


def test_kill_9_while_it_collects_leaves_an_index_that_goes_on(tmp_path):
    for number in range(300):
        cell(tmp_path, number)
    for wait in (0.05, 0.1, 0.15, 0.2, 0.25):
        process = start_collector(tmp_path, 1000)
        assert process.stdout is not None
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cell(tmp_path, 300 + int(wait * 100))
    collected = collect(tmp_path)
    assert collected.new + collected.kept == 305 and collected.bad == []
    assert tops(tmp_path) == true_tops(tmp_path)


MOUNTS = """22 1 {local} / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 {remote} / /home rw - {kind} server:/home rw,vers=4
"""


@pytest.mark.parametrize(
    "kind, mode", [("nfs4", "delete"), ("fuse.sshfs", "delete"), ("lustre", "delete"), ("xfs", "wal")]
)
def test_on_a_network_disk_there_is_no_write_ahead_log(kind, mode, tmp_path, monkeypatch):
    device = os.stat(tmp_path).st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(local="8:250", remote=here, kind=kind))
    monkeypatch.setattr(index, "MOUNTS", mounts)
    cell(tmp_path, 0)
    assert collect(tmp_path).new == 1 and len(indexed(tmp_path)) == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_without_linux_a_disk_counts_as_local(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "MOUNTS", tmp_path / "none")
    assert index._is_remote(tmp_path) is False


@pytest.mark.slow
def test_ten_thousand_records_within_their_times(tmp_path):
    """Each of 9 kB; the figures of the README are of the same size."""
    layers = [
        {"layer": f"stage{row // 3}.conv{row % 3}", "tensor": tensor}
        | {
            name: random.random()
            for name in ("mse", "mse_clip", "mse_round", "mse_uniform", "sqnr_db", "cosine", "bias")
        }
        for row in range(9)
        for tensor in ("weight", "input", "output")
    ]
    for number in range(10_000):
        path = tmp_path / f"sweep{number % 20}" / f"{number:012x}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record(number, layers=layers), indent=1))
    assert 8_000 < path.stat().st_size < 12_000
    times = []
    for call in (collect, collect, indexed):
        begin = time.monotonic()
        found = call(tmp_path)
        times.append(time.monotonic() - begin)
    assert len(found) == 10_000
    assert times[0] <= 20 and times[1] <= 2 and times[2] <= 3, times
