"""Other engines of Hydra for the same sweep: equal results, nothing computed twice, nothing lost with a dead worker."""

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from qresearch.cli import sweep_name
from qresearch.config.check import check, config_hash
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.store.record import read_records

ROOT = Path(__file__).parents[1]
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
    "ray_cluster": "hydra_ray_launcher",
    "optuna": "hydra_optuna_sweeper",
}
TINY = ["model=mlp", "model.width=8", "baseline.epochs=1", "anatomy_images=8", "calibration.images=16"]
FOUR = [*TINY, "weight.bits=4,17", "seed=0,1"]  # two cells that finish, two that cannot be
TIMED = ("seconds", "programs", "stacked")  # metrics that tell of the way, not of the network


def needs(preset: str) -> None:
    if importlib.util.find_spec(f"hydra_plugins.{PLUGINS[preset]}") is None:
        pytest.skip(f"the extra that brings {PLUGINS[preset]} is not installed")


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


@pytest.fixture(scope="module")
def environment():
    """For programs that a test starts: one thread of XLA, as the presets give their workers, and a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: sockets lie in it
        yield os.environ | {
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "160",
            "PJRT_NPROC": "1",
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qresearch.cli", "sweep", *arguments]


def swept(folder: Path, environment, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


def events(folder: Path) -> list[dict]:
    """What the journal of the only sweep in a folder tells, but for a line that is being written."""
    text = "".join(path.read_text() for path in folder.glob("runs/*/journal.jsonl"))
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def numbers(record: dict) -> tuple:
    """What a cell found, without the way to it."""
    metrics = {name: value for name, value in record["metrics"].items() if name not in TIMED}
    return record["status"], record["message"], metrics, record.get("layers"), record.get("costs"), record.get("audit")


def by_cell(folder: Path) -> dict[str, tuple]:
    (sweep,) = (path for path in folder.glob("runs/*") if (path / "journal.jsonl").exists())
    return {Path(record["path"]).parent.name: numbers(record) for record in read_records(sweep)}


@pytest.mark.parametrize(
    ("preset", "launcher", "settings"),
    [
        ("grid", "GridLauncher", {}),
        ("joblib", "JoblibLauncher", {"n_jobs": -1, "batch_size": "1"}),
        ("submitit_local", "LocalLauncher", {"timeout_min": 240}),
        ("slurm", "SlurmLauncher", {"name": "a", "cpus_per_task": 2, "mem_gb": 4, "array_parallelism": 256}),
        ("ray", "RayLauncher", {"ray.remote.num_cpus": 1, "ray.remote.max_retries": 3}),
        ("ray_cluster", "RayLauncher", {"ray.init.address": "auto", "ray.init.object_store_memory": None}),
    ],
)
def test_a_preset_chooses_its_engine_and_changes_no_cell(preset, launcher, settings):
    if preset != "grid":
        needs(preset)
    cfg = composed(f"sweep={preset}", "sweep.name=a")
    assert cfg.hydra.launcher._target_.endswith(f".{launcher}")
    assert cfg.hydra.sweeper._target_.endswith(".GridSweeper")
    for key, value in settings.items():
        node = cfg.hydra.launcher
        for part in key.split("."):
            assert part in node, f"{key} is not there"
            node = node[part]
        assert node == value, key
    threads = {"grid": None, "slurm": "2"}.get(preset, "1")
    assert cfg.hydra.job.env_set.get("PJRT_NPROC") == threads
    del cfg.hydra
    assert config_hash(check(cfg)) == config_hash(check(composed_cell()))
    assert sweep_name([f"sweep={preset}", "seed=0,1"]) == sweep_name(["seed=0,1"])


def composed_cell():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return compose("config")


def test_the_page_on_scale_tells_of_every_preset():
    page = (ROOT / "docs" / "scale.md").read_text()
    told = re.findall(r"^\| `(\w+)`(?: \(default\))? \|", page, re.MULTILINE)
    assert sorted(told) == sorted(path.stem for path in (CONFIG_FOLDER / "sweep").glob("*.yaml"))
    assert set(told) - {"grid"} == set(PLUGINS)


COUNT_THREADS = """
import os, jax
jax.numpy.ones(8).block_until_ready()
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(sum("XLA" in name for name in names))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted under /proc")
def test_the_variable_of_the_presets_sets_the_threads_of_xla(environment):
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", COUNT_THREADS],
                env=environment | {"PJRT_NPROC": str(threads), "JAX_PLATFORMS": "cpu"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for threads in (1, 3)
    ]
    assert counts[1] >= counts[0] + 2


def test_without_its_extra_a_preset_says_what_to_install(monkeypatch, capsys):
    from qresearch import cli

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "ray" in name else find(name))
    monkeypatch.setattr(cli, "_run", lambda arguments: pytest.fail("it was started"))
    with pytest.raises(SystemExit) as ended:
        cli._sweep(["sweep=ray_cluster", "seed=0,1"])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("sweep=ray_cluster needs the extra `ray`") and "make setup EXTRAS=ray" in told


@pytest.fixture(scope="module")
def in_process(tmp_path_factory, environment):
    """What the grid in one process finds for the four cells."""
    folder = tmp_path_factory.mktemp("grid")
    assert swept(folder, environment, *FOUR, "tracker=none").returncode == 1
    return by_cell(folder)


@pytest.fixture
def cluster(environment, tmp_path):
    """A Ray cluster on the loopback interface that was started in another folder than the sweep."""
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
    ray += ["--port=0", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={environment['RAY_TMPDIR']}"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with subprocess.Popen(ray, cwd=elsewhere, env=environment, start_new_session=True) as process:
        address = Path(environment["RAY_TMPDIR"], "ray_current_cluster")
        deadline = time.monotonic() + 120
        while not address.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield environment | {"RAY_ADDRESS": address.read_text().strip()}
        process.terminate()  # it ends what it started


# What `sbatch` and `srun` do, for one job array on this machine. The last argument of sbatch is the script.
SBATCH = """#!/bin/bash
for last; do :; done
cp "$last" "$STAND_IN/script.sh"
count=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
export SLURM_JOB_NAME=stand-in SLURM_CPUS_PER_TASK=1 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1
for task in $(seq 0 "$count"); do
    SLURM_ARRAY_JOB_ID=$$ SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((count + 1)) SLURM_JOB_ID=$(($$ + task)) \
        bash "$last" > "$STAND_IN/$task.out" 2>&1 &
done
echo "Submitted batch job $$"
"""
SRUN = """#!/bin/bash
while [ "${1#--}" != "$1" ]; do
    case "$1" in --output|--error) shift;; esac
    shift
done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NODELIST=here exec "$@"
"""


@pytest.fixture
def slurm(environment, tmp_path):
    """Stand-ins for Slurm's commands, which run every job at once on this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "#!/bin/bash\necho 'JobID|State|NodeList'\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return environment | {"PATH": f"{folder}:{environment['PATH']}", "STAND_IN": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["joblib", "submitit_local", "slurm", "ray", "ray_cluster"])
def test_it_finds_what_the_grid_finds_and_goes_on_where_it_was(preset, request, tmp_path, environment, in_process):
    needs(preset)
    started = {"slurm": "slurm", "ray_cluster": "cluster"}.get(preset)
    environment = request.getfixturevalue(started) if started else environment
    more = ["hydra.launcher.cpus_per_task=1"] if preset == "slurm" else []
    folder = tmp_path / "work"
    folder.mkdir()
    done = swept(folder, environment, *FOUR, f"sweep={preset}", *more)  # with W&B, as it comes
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert by_cell(folder) == in_process
    said = [line for line in done.stdout.splitlines() if line.startswith("cell ")]
    assert [line.split()[1] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    assert done.stdout.splitlines()[-1].startswith("sweep: 4 cells, 1 group")
    finished = {cell for cell, (status, *_) in in_process.items() if status == "finished"}
    assert len(finished) == 2
    for cell in finished:
        assert list(folder.glob(f"runs/*/{cell}/wandb/offline-run-*/*.wandb"))

    again = swept(folder, environment, *FOUR, f"sweep={preset}", *more)
    assert again.returncode == 1 and "sweep: 4 cells (2 kept)" in again.stdout, again.stderr
    begun = [event["cell"] for event in events(folder) if event["event"] == "started"]
    assert {cell: begun.count(cell) for cell in finished} == dict.fromkeys(finished, 1)
    if preset == "slurm":
        script = Path(environment["STAND_IN"], "script.sh").read_text()
        name = next(folder.glob("runs/sweep_*")).name
        for line in ("--array=0-3%4", "--cpus-per-task=1", "--mem=4GB", "--time=240", f"--job-name={name}"):
            assert f"#SBATCH {line}\n" in script
        assert script.index("export SRUN_CPUS_PER_TASK=") < script.index("srun ")


TWELVE = [*TINY, "tracker=none", "method=qat", "optim.epochs=40", "weight.bits=8,4,3,2", "seed=0,1,2"]
WORKERS = {
    "joblib": "hydra.launcher.n_jobs=4",
    "submitit_local": "hydra.sweeper.max_batch_size=4",
    "ray": "hydra.launcher.ray.init.num_cpus=4",
}


def killed_one(folder: Path, environment, *arguments: str) -> int:
    """Run a sweep, end with SIGKILL one process that is inside a cell after two have ended; returns its exit code."""
    with (
        open(folder / "output", "w") as output,
        subprocess.Popen(command(*arguments), cwd=folder, env=environment, stdout=output, stderr=output) as process,
    ):
        killed = False
        deadline = time.monotonic() + 400
        while process.poll() is None:
            assert time.monotonic() < deadline
            told = events(folder)
            ended = {event["cell"] for event in told if event["event"] != "started"}
            inside = [event for event in told if event["event"] == "started" and event["cell"] not in ended]
            if len(ended) >= 2 and inside and not killed and time.time() - inside[-1]["time"] > 0.2:
                os.kill(inside[-1]["process"], signal.SIGKILL)
                killed = True
            time.sleep(0.02)
    assert killed, (folder / "output").read_text()
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("preset", WORKERS)
def test_a_killed_worker_costs_no_record(preset, tmp_path, environment):
    """joblib gives the sweep up, submitit what comes after its four jobs; Ray begins the cell again."""
    needs(preset)
    arguments = [*TWELVE, f"sweep={preset}", WORKERS[preset]]
    code = killed_one(tmp_path, environment, *arguments)
    output = (tmp_path / "output").read_text()
    time.sleep(15 if preset == "submitit_local" else 0)  # its other jobs go on by themselves
    acknowledged = {event["cell"] for event in events(tmp_path) if event["event"] == "finished"}
    paths = {path.parent.name: path for path in tmp_path.glob("runs/sweep_*/*/result.json")}
    before = {name: path.read_bytes() for name, path in paths.items()}
    assert acknowledged <= before.keys()
    if preset == "ray":
        assert code == 0 and len(before) == 12, output
    else:
        assert code == 1 and 2 <= len(before) < 12, output
        assert "Traceback" not in output and "the same command goes on with the rest" in output

    done = swept(tmp_path, environment, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"sweep: 12 cells ({len(before)} kept)" in done.stdout
    found = by_cell(tmp_path)
    assert len(found) == 12 and {status for status, *_ in found.values()} == {"finished"}
    assert {name: paths[name].read_bytes() for name in before} == before
    ends = [event["cell"] for event in events(tmp_path) if event["event"] == "finished"]
    assert len(ends) == len(set(ends)) == 12


@pytest.mark.slow
def test_a_search_survives_failures_and_goes_on_where_it_was(tmp_path, environment):
    needs("optuna")
    search = [*TINY, "tracker=none", "optim.epochs=1", "weight.bits=2,4,17", "sweep=optuna"]
    first = swept(tmp_path, environment, *search, "hydra.sweeper.n_trials=8")
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr  # a cell of 17 bits failed
    assert "cell 8/8" in first.stdout
    found = by_cell(tmp_path)
    statuses = [status for status, *_ in found.values()]
    assert statuses.count("failed") and statuses.count("finished") >= 4 and len(found) == 8
    (sweep,) = tmp_path.glob("runs/sweep_*")
    best = max(metrics["top1"] for status, _, metrics, *_ in found.values() if status == "finished")
    assert f"best_value: {best}" in (sweep / "optimization_results.yaml").read_text()
    for record in read_records(sweep):
        assert 99 <= record["config"]["act"]["observer"]["percentile"] <= 100
        assert 1e-4 <= record["config"]["optim"]["learning_rate"] <= 0.1

    shutil.copytree(sweep, tmp_path / "before")
    second = swept(tmp_path, environment, *search, "hydra.sweeper.n_trials=10")
    assert "Traceback" not in second.stderr, second.stderr
    assert f"sweep: 10 cells ({statuses.count('finished')} kept)" in second.stdout
    assert found.items() <= by_cell(tmp_path).items() and len(by_cell(tmp_path)) == 10


@pytest.mark.slow
def test_a_search_runs_the_cells_of_the_grid(tmp_path, environment):
    """The same point by hand is the same cell, with the same numbers."""
    needs("optuna")
    chosen = [*TINY, "tracker=none", "optim.epochs=1", "weight.bits=4"]
    assert swept(tmp_path, environment, *chosen, "sweep=optuna", "hydra.sweeper.n_trials=1").returncode == 0
    (sweep,) = tmp_path.glob("runs/sweep_*")
    (record,) = read_records(sweep)
    point = [word for word in record["overrides"] if word.startswith(("act.observer.percentile", "optim.learning"))]
    assert len(point) == 2
    (tmp_path / "by_hand").mkdir()
    by_hand = ["method=qat", "observer@act.observer=percentile", *point]
    assert swept(tmp_path / "by_hand", environment, *chosen, *by_hand).returncode == 0
    assert by_cell(tmp_path / "by_hand") == by_cell(tmp_path)
