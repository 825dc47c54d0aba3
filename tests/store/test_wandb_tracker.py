"""W&B hears what happened, and whatever happens to W&B the run goes on.

The tests that start wandb do so in a process of their own, because half of the promise is about its exit.
"""

import atexit
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from qresearch.store import wandb_tracker
from qresearch.store.wandb_tracker import WandbTracker

ROOT = Path(__file__).parents[2]
RECORD = {
    "status": "finished",
    "config_hash": "c0ffee",
    "metrics": {"top1": 0.5, "top1_float": 0.75, "energy/total.uj": 3.25},
    "layers": [
        {"layer": "conv", "tensor": "weight", "sqnr_db": 30.5, "mse": 1e-4},
        {"layer": "conv", "tensor": "input", "sqnr_db": None, "cosine": 0.99},
    ],
}
CURVE = [(0, 2.0), (10, 1.5), (0, 1.25), (10, 1.0)]  # two trainings in one run: the step starts again

PRELUDE = f"""
import logging, os, signal, subprocess, sys, time
from pathlib import Path
from qresearch.store.wandb_tracker import WandbTracker
logging.basicConfig(format="%(message)s")

def start(name, **settings):
    tracker = WandbTracker(**settings)
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    tracker.start(folder=folder, name=name, group="sweep", config={{"weight": {{"bits": 4}}, "act": None}})
    for step, loss in {CURVE!r}:
        tracker.log(step, {{"loss": loss}})
    return tracker

def service(tracker):
    while tracker._run.run is None:
        time.sleep(0.05)
    return int(subprocess.check_output(["pgrep", "-n", "-P", str(os.getpid()), "wandb-core"]))

RECORD = {RECORD!r}
"""
TWO_RUNS = """
for name in ("a", "b"):
    start(name, online=ONLINE, init_timeout_s=1.5).finish(RECORD)
"""


def run_python(code, folder, stdio=None, **environment):
    """Seconds and standard error of a fresh interpreter that runs `code`, its exit included."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    env |= {"HOME": str(folder), "NETRC": str(folder / "netrc"), **environment}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, str(folder)],
        cwd=ROOT,
        env=env,
        text=True,
        stdin=stdio,
        stdout=stdio or subprocess.PIPE,
        stderr=stdio or subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begin, done.stderr


def read_back(folder):
    """The records of the one offline run in a folder, through wandb's own reader."""
    (log,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    lines = subprocess.check_output(command, text=True).splitlines()
    return log.parent, [json.loads(line) for line in lines]


def of_type(records, name):
    return [record[name] for record in records if record["type"] == name]


def test_import_does_not_import_wandb():
    code = "import sys, qresearch.store.wandb_tracker; sys.exit('wandb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_offline_run_holds_curves_table_heat_map_and_summary_and_the_home_stays_as_it_was(tmp_path):
    run_python("ONLINE = False" + TWO_RUNS, tmp_path, HOME=str(tmp_path / "home"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]  # no home, and nothing beside the runs
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["wandb"]
    folder, records = read_back(tmp_path / "b")
    (about,) = of_type(records, "run")
    assert (about["display_name"], about["run_group"], about["project"]) == ("b", "sweep", "qresearch")
    config = about["config"]["update"]
    assert (config["weight"], config["act"]) == ({"bits": 4}, None)
    rows = [entry["item"] for entry in of_type(records, "history")]
    assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == CURVE
    summary = {name: x for entry in of_type(records, "summary") for name, x in entry["update"].items()}
    expected = RECORD["metrics"] | {"status": "finished", "config_hash": "c0ffee"}
    assert {name: summary[name] for name in expected} == expected
    table = json.loads((folder / "files" / summary["layers.path"]).read_text())
    assert table["columns"] == ["layer", "tensor", "sqnr_db", "mse", "cosine"]
    assert table["data"] == [["conv", "weight", 30.5, 1e-4, None], ["conv", "input", None, None, 0.99]]
    assert summary["layers_sqnr_db._type"] == "plotly-file"
    figure = json.loads((folder / "files" / summary["layers_sqnr_db.path"]).read_text())
    assert (figure["data"][0]["x"], figure["data"][0]["y"]) == (["weight", "input"], ["conv"])
    assert figure["data"][0]["z"] == [[30.5, None]]
    assert [found["exit_code"] for found in of_type(records, "exit")] == [0]  # a slow one has a runtime too


def test_runs_side_by_side_are_all_kept_and_few_of_them_open(tmp_path):
    code = f"""
trackers = [start(str(n)) for n in range(20)]
for tracker in trackers:
    tracker.log(20, {{"loss": 0.5}})
trackers[19].finish(RECORD)  # one that has not been opened yet
core = service(trackers[0])
assert len(os.listdir(f"/proc/{{core}}/fd")) < {20 + 3 * wandb_tracker.TOGETHER}
assert trackers[18]._run.run is None
for tracker in trackers[:19]:
    tracker.finish(RECORD | {{"status": "failed" if tracker is trackers[3] else "finished"}})
"""
    _, said = run_python(code, tmp_path)
    assert said == ""
    assert len(list(tmp_path.glob("*/wandb/offline-run-*/*.wandb"))) == 20
    for name in (3, 19):
        _, records = read_back(tmp_path / str(name))
        rows = [entry["item"] for entry in of_type(records, "history")]
        assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == [*CURVE, (20, 0.5)]
        assert [found["exit_code"] for found in of_type(records, "exit")] == [int(name == 3)]


def test_server_that_never_answers_costs_one_timeout_for_all_runs(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        seconds, said = run_python("ONLINE = True" + TWO_RUNS, tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    assert seconds < 15
    (line,) = said.splitlines()
    assert "W&B not reached" in line
    (synced,) = (tmp_path / "a" / "wandb").glob("offline-run-*")
    assert f"`wandb sync {synced}`" in line
    assert of_type(read_back(tmp_path / "b")[1], "exit")


def test_missing_key_is_not_asked_for(tmp_path):
    terminal, stdio = pty.openpty()
    seconds, _ = run_python("ONLINE = True" + TWO_RUNS, tmp_path, stdio=stdio)
    said = os.read(terminal, 10_000).decode()
    os.close(terminal)
    os.close(stdio)
    assert seconds < 15
    (line,) = said.splitlines()
    assert "no API key; `wandb login` stores one" in line
    assert len(list(tmp_path.glob("?/wandb/offline-run-*"))) == 2


def test_dead_service_costs_its_run_and_frozen_service_ends_tracking(tmp_path):
    code = """
killed = start("killed")
os.kill(service(killed), signal.SIGKILL)
killed.finish(RECORD)
start("after").finish(RECORD)
frozen = start("frozen", patience_s=2.0)
os.kill(service(frozen), signal.SIGSTOP)
begin = time.monotonic()
frozen.finish(RECORD)
start("untracked").finish(RECORD)
assert time.monotonic() - begin < 3
"""
    seconds, said = run_python(code, tmp_path)  # returns when the service too has closed the output
    dead, hangs = said.splitlines()
    assert seconds < 20
    assert "W&B failed" in dead and str(tmp_path / "killed" / "result.json") in dead
    assert "W&B hangs (2 s)" in hangs and str(tmp_path / "frozen" / "result.json") in hangs
    assert of_type(read_back(tmp_path / "after")[1], "exit")
    assert not (tmp_path / "untracked" / "wandb").exists()


@pytest.fixture
def hang():
    """A call that never comes back, in a process that has met no wandb yet."""
    wandb_tracker._listener.cache_clear()
    end = threading.Event()
    yield lambda *args, **kwargs: end.wait()
    atexit.unregister(wandb_tracker._listener(os.getpid()).close)
    wandb_tracker._listener.cache_clear()
    end.set()


def fake_wandb(**broken):
    """A wandb that does nothing, except for the calls in `broken`."""
    nothing = dict.fromkeys(("define_metric", "log", "finish"), lambda *args, **kwargs: None)
    run = types.SimpleNamespace(**nothing | broken, summary={}, dir="run/files")
    media = {"Table": dict, "Plotly": list}
    init = broken.get("init", lambda **kwargs: run)
    return types.SimpleNamespace(setup=dict, Settings=dict, teardown=dict, init=init, **media)


def track(folder, tracker):
    begin = time.monotonic()
    tracker.start(folder=folder, name="run", group=None, config={})
    for step in range(1000):
        tracker.log(step, {"loss": 1.0})
    assert time.monotonic() - begin < tracker.patience_s  # whatever hangs, training does not
    tracker.finish(RECORD)
    return time.monotonic() - begin


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_hanging_call_costs_the_patience_once(call, hang, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(**{call: hang}))
    tracker = WandbTracker(patience_s=2.0)
    assert 2 <= track(tmp_path, tracker) < 4
    assert track(tmp_path, tracker) < 2
    assert len(caplog.messages) == 1
    assert "W&B hangs" in caplog.text and str(tmp_path / "result.json") in caplog.text


def test_runs_that_end_one_after_the_other_may_take_longer_than_the_patience(hang, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(finish=lambda **kwargs: time.sleep(0.3)))
    trackers = [WandbTracker(patience_s=0.5) for _ in range(6)]
    for tracker in trackers:
        tracker.start(folder=tmp_path, name="run", group=None, config={})
    for tracker in trackers[:-1]:
        tracker._run.listener.put(tracker._run, tracker._run.close, RECORD)
    begin = time.monotonic()
    trackers[-1].finish(RECORD)
    assert 1.8 <= time.monotonic() - begin < 4 and caplog.messages == []


def test_a_run_that_fails_leaves_those_beside_it(hang, tmp_path, monkeypatch, caplog):
    rows, ended = [], []

    def log(row):
        if row.get("loss") == 13.0:
            raise ValueError("bad row")
        rows.append(row)

    wandb = fake_wandb(log=log)
    wandb.teardown = lambda **kwargs: ended.append(len(rows))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    bad, good = WandbTracker(), WandbTracker()
    for tracker in (bad, good):
        tracker.start(folder=tmp_path, name="run", group=None, config={})
    bad.log(1, {"loss": 13.0})
    good.log(1, {"loss": 2.0})
    for tracker in (bad, good):
        tracker.finish(RECORD)
    assert [row for row in rows if "loss" in row] == [{"step": 1, "loss": 2.0}] and "layers" in rows[-1]
    assert len(caplog.messages) == 1 and "bad row" in caplog.text and ended == []


@pytest.mark.parametrize("error", [ValueError("bad row"), SystemExit(3)], ids=["exception", "exit"])
@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_failing_call_costs_its_run(call, error, hang, tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise error

    tracker = WandbTracker()
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(**{call: fail}))
    assert track(tmp_path, tracker) < 5
    assert len(caplog.messages) == 1
    assert type(error).__name__ in caplog.text and str(tmp_path / "result.json") in caplog.text
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb())
    assert track(tmp_path, tracker) < 5
    assert len(caplog.messages) == 1


def test_missing_wandb_is_said_once(hang, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for _ in range(3):
        assert track(tmp_path, WandbTracker()) < 5
    assert len(caplog.messages) == 1
    assert "ModuleNotFoundError" in caplog.text
