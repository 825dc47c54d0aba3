"""Sweeps as a user starts them: a bad cell costs itself, and Ctrl-C costs the cell that it hits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qresearch.store.record import read_records

ROOT = Path(__file__).parents[1]
TINY = ["model=mlp", "model.width=8", "baseline.epochs=1", "anatomy_images=8", "calibration.images=16", "tracker=none"]
LAST_LINE = r"sweep: (\d+) cells, (\d+) groups, (\d+) programs, \d+\.\d s( \(.*\))?"


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of four cells: one that finishes, one that diverges, two that cannot be."""
    folder = tmp_path_factory.mktemp("sweep")
    spans = ["weight.bits=4,17", "baseline.learning_rate=0.01,1e30"]
    command = [sys.executable, "-m", "qresearch.run", "-m", *TINY, *spans]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=180)
    (swept,) = folder.glob("runs/sweep_*")
    return done, swept, read_records(swept)


def test_the_other_cells_go_on(sweep):
    done, _, records = sweep
    assert [record["status"] for record in records] == ["finished", "diverged", "failed", "failed"]
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    finished, diverged, *failed = records
    assert finished["metrics"]["top1"] >= 0 and len(finished["layers"]) == 9
    assert re.match(r"The \S+ is (nan|-?inf) after step \d+;", diverged["message"])
    assert all("bits=17 is outside 1..16" in record["message"] for record in failed)


def test_cells_of_a_group_share_programs_and_the_baseline(sweep):
    _, folder, (first, second, *_) = sweep
    assert first["group"] == second["group"]
    assert first["programs"]["train_step"] == 1 and first["programs"]["evaluate_batch"] == 2  # float and quantized
    assert second["metrics"]["programs"] == 0
    assert len(list(folder.parent.glob("baselines/*.safetensors"))) == 1


def test_every_cell_is_said_as_it_ends(sweep):
    lines = sweep[0].stdout.splitlines()
    said = [line for line in lines if line.startswith("cell ")]
    assert [line.split()[1] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    top1 = sweep[2][0]["metrics"]["top1"]
    assert "weight.bits=4 baseline.learning_rate=0.01" in said[0] and said[0].endswith(f"top-1 {top1:.2f} %")
    assert all(line.endswith("no result") for line in said[1:])
    assert sum(line.startswith("error: ") and "bits=17" in line for line in lines) == 2
    assert sum(line.startswith("diverged: The ") for line in lines) == 1


def test_it_ends_with_a_table_and_the_totals(sweep):
    done, folder, records = sweep
    *before, where, last = done.stdout.splitlines()
    found = re.fullmatch(LAST_LINE, last)
    programs = sum(record["metrics"].get("programs", 0) for record in records)
    assert found and tuple(map(int, found.groups()[:3])) == (4, 1, programs)
    assert where == f"results: {folder.relative_to(folder.parents[1])}"
    head, *rows = [line.split() for line in before[-5:]]
    assert head[:2] == ["weight.bits", "baseline.learning_rate"] and head[-1] == "status"
    assert [row[0] for row in rows] == ["4", "4", "17", "17"]
    assert [row[-1] for row in rows] == ["finished", "diverged", "failed", "failed"]


def test_ctrl_c_keeps_what_has_finished(tmp_path):
    spans = ["method=float", "baseline.epochs=1,10000"]  # the second cell would take minutes
    # Where the tests themselves run in the background, SIGINT is ignored, and children inherit that.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{listen}; from qresearch.cli import main; main()"
    command = [sys.executable, "-c", start, "sweep", *TINY, *spans]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) as process:
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("runs/sweep_*/1/.hydra")) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "interrupted: finished cells are kept" in err and "Traceback" not in err
    (path,) = tmp_path.glob("runs/sweep_*/*/result.json")
    assert path.parent.name == "0" and json.loads(path.read_text())["status"] == "finished"
    assert len(list(tmp_path.glob("runs/baselines/*.safetensors"))) == 1
    assert not list(tmp_path.rglob("*.part"))
    found = re.fullmatch(LAST_LINE, out.splitlines()[-1])
    assert found and found.group(1) == "1"
