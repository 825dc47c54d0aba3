"""Past records become runs of W&B, read back with its own reader; once more, and they are the same runs.

Whatever starts wandb does so in a process of its own, in a home of its own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qresearch.reports.export_wandb_command import main
from qresearch.store.export_wandb import run_id, sweep_name
from qresearch.store.record import read_record, write_json
from qresearch.store.wandb_media import layer_media, sqnr_heat_map

ROOT = Path(__file__).parents[2]
CURVES = {
    "baseline": [{"step": 10, "loss": 2.0, "accuracy": 0.25}, {"step": 20, "loss": 1.0, "accuracy": 0.5}],
    "qat": [{"step": 10, "loss": 0.75, "accuracy": 0.625, "scale/conv.weight": 0.03125}],
}
LAYERS = [
    {"layer": "conv", "tensor": "weight", "sqnr_db": 20.5, "mse": 1e-3, "codes_used": 16},
    {"layer": "conv", "tensor": "output", "sqnr_db": None, "mse": 0.0},
    {"layer": "linear<b>", "tensor": "weight", "sqnr_db": 10.25, "mse": 1e-2},
]
COMMAND = "import sys; from qresearch.reports.export_wandb_command import main; main(sys.argv[1:])"


def record(number, **changes):
    return {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {"weight": {"bits": 4}, "act": None, "seed": number},
        "config_hash": f"{number:012x}",
        "overrides": [f"seed={number}"],
        "group": "0a1b2c3d",
        "metrics": {"top1": 90.5 + number, "sqnr_weight_db": 15.375, "size_bytes": 2320, "seconds": 0.5, "stacked": 1},
        "layers": LAYERS,
        "environment": {"device": "cpu"},
        "finished_at": "2026-11-23T12:00:00+00:00",
    } | changes


def failed(number):
    kept = {key: record(number)[key] for key in ("schema", "config", "overrides", "environment", "finished_at")}
    return kept | {"status": "failed", "message": "bits=17 is none", "metrics": {}}


@pytest.fixture
def runs(tmp_path):
    """A sweep of three cells, one of which failed, a run of its own, a broken record and one whose curves broke."""
    folder = tmp_path / "my runs"
    for number in range(2):
        write_json(folder / "sweep" / f"{number:012x}" / "result.json", record(number))
        write_json(folder / "sweep" / f"{number:012x}" / "curves.json", CURVES)
    write_json(folder / "sweep" / f"{2:012x}" / "result.json", failed(2))
    write_json(folder / "2026-11-23_12-00-00" / "result.json", record(3))
    (folder / "2026-11-23_12-00-00" / "curves.json").write_text('{"qat": [{"loss": 1.0}]}')
    (folder / "broken").mkdir()
    (folder / "broken" / "result.json").write_text("{")
    return folder


def export(folder, *options, home, **environment):
    """The finished process of `qresearch export-wandb`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "NETRC": str(home / "netrc"), **environment}
    command = [sys.executable, "-c", COMMAND, str(folder), *options]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)


def exported(folder):
    """The logs of the offline runs in a folder, by run id."""
    return {path.stem.removeprefix("run-"): path for path in folder.glob("wandb/offline-run-*/*.wandb")}


def read_back(log):
    """The records of a log, by their type, through wandb's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    found = {}
    for line in subprocess.check_output(command, text=True).splitlines():
        entry = json.loads(line)
        found.setdefault(entry["type"], []).append(entry[entry["type"]])
    return found


def test_exported_read_back_and_exported_again(runs, tmp_path):
    done = export(runs, "--project", "p", "--entity", "e", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    line, upload = done.stdout.splitlines()
    assert line.startswith(f"exported: 4 runs in {runs / 'wandb'}, ") and upload == f"upload: cd '{runs}' && wandb sync"
    broken, curves = done.stderr.splitlines()
    assert broken.startswith(f"unreadable: {runs / 'broken' / 'result.json'} cannot be read")
    assert curves.startswith(f"unreadable: {runs / '2026-11-23_12-00-00' / 'curves.json'} cannot be read ('step')")
    assert not (tmp_path / "home").exists()

    logs = exported(runs)
    names = {run_id(read_record(path)) for path in runs.rglob("[0-9]*/result.json")}
    assert names == logs.keys() and len(names) == 4
    check_whole(read_back(logs[run_id(record(1))]), logs[run_id(record(1))].parent)
    check_failed(read_back(logs[run_id(failed(2))]))

    write_json(runs / "sweep" / f"{1:012x}" / "curves.json", {"qat": [{"step": 1, "loss": 0.125}]})
    shutil.copytree(runs / "sweep", runs / "copy")
    shutil.rmtree(runs / "broken")
    done = export(runs, home=tmp_path / "home")
    assert done.stdout.splitlines()[1] == "3 more records are copies of these runs"
    again = exported(runs)
    assert again.keys() == logs.keys() and set(again.values()).isdisjoint(logs.values())
    assert len(list((runs / "wandb").glob("offline-run-*"))) == 4


def check_whole(found, folder):
    (about,) = found["run"]
    assert (about["run_id"], about["display_name"], about["run_group"]) == (run_id(record(1)), f"{1:012x}", "sweep")
    assert (about["project"], about["entity"]) == ("p", "e")
    config = about["config"]["update"]
    assert (config["weight"], config["act"], config["seed"]) == ({"bits": 4}, None, 1)
    rows = [{name: x for name, x in entry["item"].items() if name[0] != "_"} for entry in found["history"]]
    assert rows[:3] == [
        {"step": 10, "baseline/loss": 2.0, "baseline/accuracy": 0.25},
        {"step": 20, "baseline/loss": 1.0, "baseline/accuracy": 0.5},
        {"step": 10, "qat/loss": 0.75, "qat/accuracy": 0.625, "qat/scale/conv.weight": 0.03125},
    ]
    summary = {name: x for entry in found["summary"] for name, x in entry["update"].items()}
    said = record(1)["metrics"] | {name: record(1)[name] for name in ("status", "config_hash", "finished_at")}
    assert {name: summary[name] for name in said} == said
    table = json.loads((folder / "files" / summary["layers.path"]).read_text())
    assert table["columns"] == ["layer", "tensor", "sqnr_db", "mse", "codes_used"]
    assert table["data"] == [[row.get(name) for name in table["columns"]] for row in LAYERS]
    figure = json.loads((folder / "files" / summary["layers_sqnr_db.path"]).read_text())
    assert figure["data"][0]["z"] == [[20.5, None], [10.25, None]]
    assert found["exit"] == [{"exit_code": 0}]


def check_failed(found):
    (about,) = found["run"]
    assert (about["display_name"], about["run_group"]) == (f"{2:012x}", "sweep")
    summary = {name: x for entry in found["summary"] for name, x in entry["update"].items()}
    assert (summary["status"], summary["message"]) == ("failed", "bits=17 is none")
    assert found["exit"] == [{"exit_code": 1}]


def test_online_without_a_key_asks_for_none_and_says_what_to_do(runs, tmp_path):
    done = export(runs, "--online", home=tmp_path / "home")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "error: W&B has no API key here. `wandb login` stores one; without --online none is needed.\n"
    )


def test_online_without_a_server_ends_and_says_so(runs, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        code = COMMAND.replace("import main;", "import main; import qresearch.store.export_wandb as e; e.INIT_S = 1.5;")
        env = os.environ | {"HOME": str(tmp_path), "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
        command = [sys.executable, "-c", code, str(runs), "--online"]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and time.monotonic() - begin < 20
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: W&B failed (") and "0 of 4 runs are exported. See to the network" in line


def test_nothing_to_export(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "none")])
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path / 'none'}: there is no record to export below it (0 unreadable).\n"
    )


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--offline"]])
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: qresearch export-wandb" in capsys.readouterr().err


def test_a_run_keeps_its_name_wherever_it_lies_and_others_have_others(tmp_path):
    old = {key: value for key, value in record(0).items() if key not in ("overrides", "finished_at")} | {"schema": 1}
    names = set()
    for place, time_s in (("a", 1e9), ("b", 2e9)):
        write_json(tmp_path / place / "result.json", old)
        os.utime(tmp_path / place / "result.json", (time_s, time_s))
        names.add(run_id(read_record(tmp_path / place / "result.json")))
    assert names == {run_id(record(0))}
    others = [record(1), record(0, metrics={"top1": 90.5, "seconds": 0.6}), record(0, status="diverged")]
    names |= {run_id(other) for other in [*others, failed(0), failed(1)]}
    assert len(names) == 6 and all(name.replace("-", "").isalnum() and len(name) == 25 for name in names)


@pytest.mark.parametrize(
    "path, group",
    [
        ("runs/bits/0123456789ab/result.json", "bits"),
        ("runs/bits/17/result.json", "bits"),
        ("0123456789ab/result.json", "HERE"),
        ("runs/2026-11-23_12-00-00/result.json", None),
        ("runs/0123456789AB/result.json", None),
    ],
)
def test_the_name_of_a_sweep(path, group, tmp_path, monkeypatch):
    (tmp_path / "HERE").mkdir()
    monkeypatch.chdir(tmp_path / "HERE")
    assert sweep_name(Path(path)) == group


def test_the_folder_of_another_engine_is_a_sweep_too(tmp_path):
    (tmp_path / "slurm" / "x").mkdir(parents=True)
    (tmp_path / "slurm" / "multirun.yaml").touch()
    assert sweep_name(tmp_path / "slurm" / "x" / "result.json") == "slurm"


def test_heat_map_has_a_row_for_each_layer_in_order_and_escapes_names():
    rows = [*LAYERS, {"layer": "0", "tensor": "input", "sqnr_db": 61.5}, {"layer": "0", "tensor": "grad"}]
    figure = sqnr_heat_map(rows).to_plotly_json()
    heat = figure["data"][0]
    assert list(heat["x"]) == ["weight", "input", "output", "grad"]
    assert list(heat["y"]) == ["conv", "linear&lt;b&gt;", "0"]
    assert [list(row) for row in heat["z"]] == [
        [20.5, None, None, None],
        [10.25, None, None, None],
        [None, 61.5, None, None],
    ]
    assert figure["layout"]["yaxis"]["type"] == "category"  # "0" is a name, no number


def test_without_layers_there_are_no_media():
    assert layer_media([]) == {}
