"""Sweeps as a user starts them: a bad cell costs itself, Ctrl-C the cell that it hits, and the same command goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from qresearch.store.journal import Follower
from qresearch.store.record import read_record

ROOT = Path(__file__).parents[1]
TINY = ["model=mlp", "model.width=8", "baseline.epochs=1", "anatomy_images=8", "calibration.images=16", "tracker=none"]
SPANS = ["weight.bits=4,17", "baseline.learning_rate=0.01,1e30"]
LAST_LINE = r"sweep: (\d+) cells?(?: \((\d+) kept\))?, (\d+) groups?, (\d+) programs?, \d+\.\d s( \(.*\))?"


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}


def command(*arguments):
    return [sys.executable, "-m", "qresearch.cli", "sweep", *TINY, *arguments]


def run(folder, *arguments):
    pipes = {"capture_output": True, "text": True, "timeout": 180}
    return subprocess.run(command(*arguments), cwd=folder, env=environment(), **pipes)


def journal(folder):
    return Follower(folder, from_start=True).read()


def events(folder, *names):
    """How often each cell had one of these events."""
    return Counter(event["cell"] for event in journal(folder) if event["event"] in names)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of four cells: one that finishes, one that diverges, two that cannot be; its records in this order."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run(folder, *SPANS)
    (swept,) = folder.glob("runs/sweep_*")
    records = list(map(read_record, swept.glob("*/result.json")))
    order = [(bits, rate) for bits in (4, 17) for rate in (0.01, 1e30)]

    def place(record):
        config = record["config"]
        return order.index((config["weight"]["bits"], config["baseline"]["learning_rate"]))

    return done, swept, sorted(records, key=place)


def test_the_other_cells_go_on(sweep):
    done, _, records = sweep
    assert [record["status"] for record in records] == ["finished", "diverged", "failed", "failed"]
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    finished, diverged, *failed = records
    assert finished["metrics"]["top1"] >= 0 and len(finished["layers"]) == 9
    assert re.match(r"The \S+ is (nan|-?inf) after step \d+;", diverged["message"])
    assert all("bits=17 is outside 1..16" in record["message"] for record in failed)


def test_a_cell_lies_in_a_folder_of_its_hash_and_nothing_else_is_there(sweep):
    _, folder, records = sweep
    assert re.fullmatch(r"sweep_[0-9a-f]{8}", folder.name)
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert len(names) == 4 and all(re.fullmatch("[0-9a-f]{12}", name) for name in names)
    for record in records[:2]:
        files = sorted(path.name for path in (folder / record["config_hash"]).iterdir())
        assert files == ["audit.txt", "curves.json", "result.json"]
        assert read_record(folder / record["config_hash"] / "result.json")["config"] == record["config"]
    files = {path.name for path in folder.iterdir() if path.is_file()}
    assert files == {".claims", "journal.jsonl", "multirun.yaml"} and not list(folder.rglob(".hydra"))


def test_cells_of_a_group_share_programs_and_the_baseline(sweep):
    _, folder, (first, second, *_) = sweep
    assert first["group"] == second["group"]
    assert first["programs"]["train_step"] == 1 and first["programs"]["evaluate_batch"] == 2  # float and quantized
    assert second["metrics"]["programs"] == 0
    assert len(list(folder.parent.glob("baselines/*.safetensors"))) == 1


def test_every_cell_is_said_as_it_ends(sweep):
    lines = sweep[0].stdout.splitlines()
    said = [re.sub(r"  \(\d+ (s|min) left\)$", "", line) for line in lines if line.startswith("cell ")]
    assert [line.split()[1] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    top1 = sweep[2][0]["metrics"]["top1"]
    assert said[0] == f"cell 1/4  weight.bits=4 baseline.learning_rate=0.01  top-1 {top1:.2f} %"
    assert all(line.endswith("no result") for line in said[1:])
    assert sum(line.startswith("error: ") and "bits=17" in line for line in lines) == 2
    assert sum(line.startswith("diverged: The ") for line in lines) == 1


def test_it_ends_with_a_table_and_the_totals(sweep):
    done, folder, records = sweep
    *before, where, last = done.stdout.splitlines()
    found = re.fullmatch(LAST_LINE, last)
    programs = sum(record["metrics"].get("programs", 0) for record in records)
    assert found and found.groups()[:4] == ("4", None, "1", str(programs)) and programs > 5
    assert where == f"results: {folder.relative_to(folder.parents[1])}"
    head, *rows = [line.split() for line in before[-5:]]
    assert head[:2] == ["weight.bits", "baseline.learning_rate"] and head[-1] == "status"
    assert [row[0] for row in rows] == ["4", "4", "17", "17"]
    assert [row[-1] for row in rows] == ["finished", "diverged", "failed", "failed"]


def test_the_same_command_tries_again_what_failed_and_nothing_else(sweep):
    """In another order, too."""
    _, folder, records = sweep
    paths = [folder / record["config_hash"] / "result.json" for record in records[:2]]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in paths]
    count = len(journal(folder))
    done = run(folder.parents[1], *reversed(SPANS))
    assert done.returncode == 1 and list(folder.parent.glob("sweep_*")) == [folder]
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in paths] == before
    found = re.fullmatch(LAST_LINE, done.stdout.splitlines()[-1])
    assert found and found.groups() == ("4", "2", "1", "0", None)
    assert Counter(event["event"] for event in journal(folder)[count:]) == {"kept": 2, "started": 2, "failed": 2}
    said = [line for line in done.stdout.splitlines() if line.startswith("cell ")]
    assert [line.split()[1] for line in said] == ["3/4", "4/4"]


def test_two_processes_divide_the_cells_between_them(tmp_path):
    """Started at once in one folder; both see all cells, and none is computed twice."""
    spans = ["weight.bits=8,6,4,2", "seed=0,1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command(*spans), cwd=tmp_path, env=environment(), **pipes) for _ in range(2)]
    try:
        said = [process.communicate(timeout=180) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    (folder,) = tmp_path.glob("runs/sweep_*")
    records = [read_record(path) for path in folder.glob("*/result.json")]
    assert len(records) == 8 and {record["status"] for record in records} == {"finished"}
    for names in (("started",), ("finished",)):
        assert events(folder, *names) == dict.fromkeys((record["config_hash"] for record in records), 1)
    for out, _ in said:
        found = re.fullmatch(LAST_LINE, out.splitlines()[-1])
        assert found and found.group(1) == "8"
    assert len(list(tmp_path.glob("runs/baselines/*.safetensors"))) == 2
    trained = sum(record["programs"].get("train_step", 0) for record in records)
    assert 1 <= trained <= 2  # a program for each process that trained


def test_ctrl_c_keeps_what_has_finished(tmp_path):
    spans = ["method=float", "baseline.epochs=1,10000"]  # the second cell would take minutes
    # Where the tests themselves run in the background, SIGINT is ignored, and children inherit that.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{listen}; from qresearch.cli import main; main()"
    arguments = [sys.executable, "-c", start, "sweep", *TINY, *spans]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment(), **pipes) as process:
        try:
            deadline = time.monotonic() + 120
            while not second_has_started(tmp_path) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "interrupted: finished cells are kept" in err and "Traceback" not in err
    (path,) = tmp_path.glob("runs/sweep_*/*/result.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished" and record["config"]["baseline"]["epochs"] == 1
    assert len(list(tmp_path.glob("runs/baselines/*.safetensors"))) == 1
    assert not list(tmp_path.rglob("*.part"))
    found = re.fullmatch(LAST_LINE, out.splitlines()[-1])
    assert found and found.group(1) == "1"


def second_has_started(folder):
    return any(len(events(path.parent, "started")) == 2 for path in folder.glob("runs/sweep_*/journal.jsonl"))
