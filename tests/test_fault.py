"""A sweep that is killed at random moments and begun again ends as one that was left alone."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from itertools import product

import pytest

from qresearch.store.journal import FILE, Follower
from qresearch.store.record import read_records
from qresearch.sweep.launch import run_cells_named
from tiny import TINY

OF_THE_RUN = ("seconds", "programs", "stacked")  # metrics that say how a cell was computed
KILLS = 10
LAST = 19  # results before the last one of them: some cells are left, however late it comes


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Starts processes that have imported everything, with a compilation cache that they share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("programs")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["qresearch.sweep.launch"])
        yield context


def cells(runs):
    """16 of PTQ and 8 of training, from four float networks."""
    spans = [*product(["ptq"], [2, 3, 4, 8], range(4)), *product(["qat"], [2, 3, 4, 8], range(2))]
    words = [[f"method={method}", f"weight.bits={bits}", f"seed={seed}"] for method, bits, seed in spans]
    return [[*TINY, *cell, f"runs_dir={runs}"] for cell in words]


def begin(processes, runs):
    process = processes.Process(target=run_cells_named, args=(cells(runs), runs / "sweep"))
    process.start()
    return process


def kill(process, sweep, finished, pause_s):
    """SIGKILL a little after so many cells have a result."""
    deadline = time.monotonic() + 120
    while len(list(sweep.glob("*/result.json"))) < finished and time.monotonic() < deadline:
        assert process.is_alive()
        time.sleep(0.001)
    time.sleep(pause_s)
    assert process.is_alive(), "it was through before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def numbers(record):
    return {name: value for name, value in record["metrics"].items() if name not in OF_THE_RUN}


def test_killed_ten_times(processes, tmp_path, capfd):
    left_alone, killed = tmp_path / "left_alone", tmp_path / "killed"
    process = begin(processes, left_alone)
    process.join()
    assert process.exitcode == 0
    expected = {record["config_hash"]: numbers(record) for record in read_records(left_alone / "sweep")}
    assert len(expected) == 24

    moments = random.Random(5)  # from before the first result to 19 of them
    for finished in sorted(moments.randint(0, LAST) for _ in range(KILLS)):
        before = len(list(killed.glob("sweep/*/result.json")))
        # A process needs a second for its first cell; then a cell takes some hundredths.
        pause_s = moments.uniform(0, 0.03 if finished > before else 1.0)
        kill(begin(processes, killed), killed / "sweep", finished, pause_s)
    process = begin(processes, killed)
    process.join()
    assert process.exitcode == 0

    found = read_records(killed / "sweep")
    # The runs folder is part of no hash, so the cells have equal names.
    assert {record["config_hash"]: numbers(record) for record in found} == expected
    assert {record["status"] for record in found} == {"finished"}
    assert not list((killed / "sweep").rglob("*.part")) and not list(killed.rglob("damaged-*"))

    events = Follower(killed / "sweep", from_start=True).read()
    assert len((killed / "sweep" / FILE).read_bytes().splitlines()) >= len(events) > 24
    ended = Counter(event["cell"] for event in events if event["event"] == "finished")
    assert set(ended.values()) == {1}  # where the kill came between the record and its line, the cell is only "kept"
    over = set()
    for event in events:
        assert not (event["event"] == "started" and event["cell"] in over), "a cell with a result was begun again"
        if event["event"] in ("finished", "kept"):
            over.add(event["cell"])
    assert over == expected.keys()
