"""What a cell costs beside its own computation, by the engine of the sweep: the figures of docs/scale.md.

    .venv/bin/python benchmarks/engines.py [repeats, default 3]

PTQ of the digits CNN at many bit-widths, with the float baseline and the compiled programs on disk from before, no
tracker, one thread of XLA. Engines that are not installed are left out. Wall-clock seconds, the median of the repeats:

    start       from the command to the first cell: imports, composition, and the engine's own
    first cell  computation in a process that has to read its programs from the cache (empty: to compile them)
    own         computation of a further cell in the same process
    beside      from the end of a cell to the end of the next one in the same place, less its computation
    ahead       composing and checking a cell before the first one starts
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FEW = ["weight.bits=2,3,4,5", "act.bits=4,8"]
MANY = ["weight.bits=range(2,17)", "act.bits=range(2,17)"]  # 225 cells
CELLS = ["method=ptq", "tracker=none"]
# One worker at a time, but for joblib, which with one works in the process of the sweep.
ENGINES = {
    "joblib": ("hydra_joblib_launcher", ["sweep=joblib", "hydra.launcher.n_jobs=2"]),
    "submitit": ("hydra_submitit_launcher", ["sweep=submitit_local", "hydra.sweeper.max_batch_size=1"]),
    "ray": ("hydra_ray_launcher", ["sweep=ray", "hydra.launcher.ray.init.num_cpus=1"]),
}


class Figures(NamedTuple):
    """Seconds."""

    start: float
    first: float
    own: float
    beside: float


def sweep(folder: Path, environment: dict[str, str], name: str, *arguments: str, apart: bool = False) -> Figures:
    """The figures of one sweep; with `apart` every cell has a process of its own, one after the other."""
    begun = time.time()
    command = [sys.executable, "-m", "qresearch.cli", "sweep", *CELLS, f"sweep.name={name}", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    events = [json.loads(line) for line in (folder / "runs" / name / "journal.jsonl").read_text().splitlines()]
    start = next(event["time"] for event in events if event["event"] == "started") - begun
    places: dict[int, list[dict]] = {}
    for event in events:
        if event["event"] == "finished":
            places.setdefault(0 if apart else event["process"], []).append(event)
    first = [ended[0]["seconds"] for ended in places.values()]
    pairs = [pair for ended in places.values() for pair in pairwise(ended)]
    own = [after["seconds"] for _, after in pairs]
    beside = [after["time"] - before["time"] - after["seconds"] for before, after in pairs]
    return Figures(start, *map(statistics.median, (first, own, beside)))


def median(figures: list[Figures]) -> Figures:
    return Figures(*(statistics.median(column) for column in zip(*figures, strict=True)))


def show(name: str, found: Figures) -> None:
    start, first, own, beside = found
    print(f"{name:28} {start:7.2f} {first:12.2f} {own:7.3f} {beside:8.3f}", flush=True)


def main(repeats: int = 3) -> None:
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'seconds':28} {'start':>7} {'first cell':>12} {'own':>7} {'beside':>8}")
    with tempfile.TemporaryDirectory(prefix="ray") as name:  # a short path: Ray has its sockets there
        folder = Path(name)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": name, "PJRT_NPROC": "1"}
        environment |= {"RAY_TMPDIR": name, "RAY_USAGE_STATS_ENABLED": "0"}
        sweep(folder, environment, "warm", *FEW)  # the baseline, the calibration and the cache
        few = [sweep(folder, environment, f"few{n}", *FEW) for n in range(repeats)]
        many = [sweep(folder, environment, f"many{n}", *MANY) for n in range(repeats)]
        show("in process, 8 cells", median(few))
        show("in process, 225 cells", median(many))
        uncached = environment | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        show("in process, cache empty", median([sweep(folder, uncached, f"cold{n}", *FEW) for n in range(repeats)]))
        for engine, (plugin, chosen) in ENGINES.items():
            if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
                print(f"{engine}: the extra is not installed")
                continue
            apart = engine == "submitit"
            found = [sweep(folder, environment, f"{engine}{n}", *FEW, *chosen, apart=apart) for n in range(repeats)]
            show(f"{engine}, 8 cells", median(found))
        ahead = (median(many).start - median(few).start) / (225 - 8)
        print(f"in process, each cell costs {1e3 * ahead:.1f} ms ahead and {1e3 * median(many).beside:.1f} ms beside")
        files = [path for path in (folder / "runs" / "many0").glob("*/*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"a cell leaves {len(files) / 225:.1f} files in a folder, {size / 225 / 1e3:.1f} kB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
