"""A folder of 10,000 records: seconds to collect it and to report on it, the report's size, the live page's answers.

    .venv/bin/python benchmarks/report.py [--records 10000] [--folder FOLDER]

The records are made up, with the shape of real ones: the configuration that Hydra composes for `ptq_cifar10`, the 22
layers of a ResNet-20 with three tensors each, five seeds of each setting, a few failed and diverged cells. FOLDER keeps
them (0.7 GB) for another time. Aims on two CPU cores: collect 20 s, again 2 s; report 10 s, 15 MB; live page 200 ms.
"""

import argparse
import hashlib
import itertools
import json
import os
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from qresearch.config.nodes import plain
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.reports.dashboard import Dashboard
from qresearch.reports.live_folder import LiveFolder
from qresearch.reports.report_command import write_report
from qresearch.store.index import collect
from qresearch.store.record import SCHEMA, environment

LAYERS = {
    "conv1": (16, 27),  # rows and columns of its weights
    **{
        f"blocks.{block}.conv{half}": (width, 9 * (width // 2 if block in (3, 6) and half == 1 else width))
        for block in range(9)
        for half, width in ((1, 16 << block // 3), (2, 16 << block // 3))
    },
    "blocks.3.shortcut": (32, 16),
    "blocks.6.shortcut": (64, 32),
    "linear": (10, 64),
}
CURVES = 211  # different files; a page holds those of 48 runs, and 5,000 files would only fill the disk
AXES: dict[str, tuple] = {
    "method.name": ("ptq", "qat"),
    "weight.bits": (8, 6, 4, 3, 2),
    "act.bits": (8, 6, 4, 3, 2),
    "weight.granularity": ("tensor", "channel"),
    "optim.weight_decay": tuple(round(1e-5 * 1.35**power, 9) for power in range(20)),
    "seed": (0, 1, 2, 3, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the records lie or are to be made; by default they go again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "runs"
        if not folder.is_dir():
            seconds, _ = timed(lambda: make_records(folder, arguments.records))
            print(f"{arguments.records} records made in {seconds:.0f} s", flush=True)
        measure(folder)


def measure(folder: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (folder / f"index.sqlite{suffix}").unlink(missing_ok=True)
    first, found = timed(lambda: collect(folder))
    second, again = timed(lambda: collect(folder))
    assert found.new == again.kept and not found.bad
    print(f"collect {found.new} records: {first:.1f} s (aim 20), again {second:.1f} s (aim 2)", flush=True)
    target = folder / "report.html"
    seconds, _ = timed(lambda: write_report(folder, target))
    print(f"report: {seconds:.1f} s (aim 10), {target.stat().st_size / 1e6:.1f} MB (aim 15)", flush=True)
    measure_live(folder)


def measure_live(folder: Path) -> None:
    """The answers of the live page: at rest, and while the records are read again and again behind it."""
    source = LiveFolder(folder)
    server = Dashboard(source, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seconds, _ = timed(source.refresh)
    print(f"live page: all is read in {seconds:.1f} s, behind it", flush=True)
    trained = next(path for path in folder.glob("*/*/curves.json")).with_name("result.json").relative_to(folder)
    paths = {"the page": "/", "all records": "/data", "no news": f"/data?epoch={source.epoch}&since=1"}
    ask(server, paths | {"curves of a run": f"/curves?run={trained}"}, "at rest")
    ended = threading.Event()

    def read_again() -> None:
        while not ended.is_set():
            source.refresh(anyway=True)

    reader = threading.Thread(target=read_again)
    reader.start()
    ask(server, paths, "while it reads")
    ended.set()
    reader.join()
    server.shutdown()


def ask(server: Dashboard, paths: dict[str, str], when: str) -> None:
    for name, path in paths.items():
        answers = [timed(lambda path=path: get(server.address + path)) for _ in range(20)]
        times = sorted(1e3 * seconds for seconds, _ in answers)
        print(
            f"{name}, {when}: {times[10]:.0f} ms, slowest of 20 {times[-1]:.0f} (aim 200); {answers[0][1] / 1e6:.2f} MB"
        )


def get(address: str) -> int:
    with urllib.request.urlopen(address) as answer:
        return len(answer.read())


def timed(action: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    found = action()
    return time.perf_counter() - started, found


def make_records(folder: Path, count: int) -> None:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        base = plain(compose("config", ["experiment=ptq_cifar10", "tracker=none"]))
    machine = environment()
    points = itertools.islice(itertools.cycle(itertools.product(*AXES.values())), count)
    curves: list[Path] = []
    for number, values in enumerate(points):
        rng = np.random.default_rng(number)
        record = make_record(base, dict(zip(AXES, values, strict=True)), machine, rng, number)
        cell = folder / "big" / record["config_hash"]
        cell.mkdir(parents=True)
        (cell / "result.json").write_text(json.dumps(record, indent=1))
        if record["config"]["method"]["name"] == "qat" and record["status"] != "failed":
            if len(curves) < CURVES:
                curves.append(cell / "curves.json")
                curves[-1].write_text(json.dumps(make_curves(rng), indent=1))
            else:
                os.link(curves[number % CURVES], cell / "curves.json")


def make_record(base: dict, point: dict[str, Any], machine: dict, rng: np.random.Generator, number: int) -> dict:
    config = json.loads(json.dumps(base))
    for key, value in point.items():
        node = config
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    config["number"] = number // (len(AXES["seed"]) * 2000)  # beyond 10,000 the points repeat under another number
    status = "failed" if number % 1501 == 1500 else "diverged" if number % 701 == 700 else "finished"
    text = json.dumps(config, sort_keys=True) + str(number)
    record = {
        "schema": SCHEMA,
        "status": status,
        "message": None
        if status == "finished"
        else f"Something went wrong in cell {number}; lower optim.learning_rate.",
        "config": config,
        "config_hash": hashlib.sha256(text.encode()).hexdigest()[:12],
        "group": hashlib.sha256(point["method.name"].encode()).hexdigest()[:8],
        "overrides": [f"{key}={value}" for key, value in point.items()],
        "metrics": {},
        "environment": machine,
        "finished_at": f"2026-11-23T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}+00:00",
    }
    if status == "failed":
        return record
    layers = make_layers(point, rng)
    costs = make_costs(point)
    record |= {"layers": layers, "costs": costs, "audit": make_audit(point), "float_tensors": dict.fromkeys(LAYERS, 16)}
    record["metrics"] = make_metrics(point, layers, costs, rng, finished=status == "finished")
    record["programs"] = {"evaluate_batch": 1, "train_step": 1}
    return record


def make_layers(point: dict[str, Any], rng: np.random.Generator) -> list[dict]:
    """Six dB a bit, less for one scale per tensor, and more clipping the fewer bits."""
    rows = []
    for depth, layer in enumerate(LAYERS):
        for tensor in ("weight", "input", "output"):
            bits = point["act.bits" if tensor == "input" else "weight.bits"]
            sqnr = (
                6.02 * bits - (4 if point["weight.granularity"] == "tensor" else 0) - 0.2 * depth + rng.normal(0, 0.5)
            )
            row: dict[str, Any] = {"layer": layer, "tensor": tensor, "bias": rng.normal(0, 1e-4), "cosine": 0.99}
            row |= {"max_error": rng.uniform(0.01, 0.1), "mse": 10 ** (-sqnr / 10), "sqnr_db": sqnr}
            if tensor != "output":
                share = float(np.clip(rng.normal(0.4 - 0.05 * bits, 0.05), 0, 1))
                row |= {
                    "mse_clip": share * row["mse"],
                    "mse_round": (1 - share) * row["mse"],
                    "mse_uniform": row["mse"],
                }
                row |= {"codes": 2**bits, "codes_used": 2**bits - 1}
            rows.append(row)
    return rows


def make_costs(point: dict[str, Any]) -> dict[str, dict[str, Any]]:
    bits = point["weight.bits"] * point["act.bits"]
    return {
        layer: {
            "macs": rows * columns * 256,
            "bitops": rows * columns * 256 * bits,
            "bytes_moved": rows * columns * point["weight.bits"] / 8,
            "energy_arithmetic_uj_estimate": rows * columns * 1e-7,
            "energy_memory_uj_estimate": rows * columns * 1e-6,
        }
        for layer, (rows, columns) in LAYERS.items()
    }


def make_audit(point: dict[str, Any]) -> list[dict[str, Any]]:
    words = {"grid": "int8", "scale": "float32", "rounding": "half_even", "quantizer": "Static", "observer": "AbsMax"}
    words |= {"granularity": point["weight.granularity"], "estimator": "ClippedStraightThrough"}
    tensors = itertools.product(LAYERS, ("weight", "input"))
    return [{"layer": layer, "tensor": tensor, "bits": point["weight.bits"], **words} for layer, tensor in tensors]


def make_metrics(point: dict, layers: list, costs: dict, rng: np.random.Generator, *, finished: bool) -> dict[str, Any]:
    float_top1 = 91.73 + 0.1 * point["seed"]
    metrics = {
        "top1_float": float_top1,
        "loss_float": 0.35,
        "size_bytes_float": 1_080_000,
        "seconds": rng.uniform(1, 9),
    }
    if not finished:
        return metrics
    width = min(point["weight.bits"], point["act.bits"])
    lost = (2.0 if point["method.name"] == "qat" else 6.0) * 4.0 ** max(0, 4 - width) / 4
    top1 = max(10.0, float_top1 - min(80.0, lost) + rng.normal(0, 0.3))
    metrics |= {
        "top1": round(top1, 2),
        "loss": 5 / top1,
        "test_images": 10_000,
        "size_bytes": 135_000 * point["weight.bits"],
    }
    for kind in next(iter(costs.values())):
        metrics[kind] = sum(cost[kind] for cost in costs.values())
    for tensor in ("weight", "input", "output"):
        values = [row["sqnr_db"] for row in layers if row["tensor"] == tensor]
        metrics |= {f"sqnr_{tensor}_db": float(np.mean(values)), f"sqnr_{tensor}_db_min": float(np.min(values))}
    return metrics | {"programs": 0, "stacked": 1}


def make_curves(rng: np.random.Generator) -> dict[str, list[dict[str, float]]]:
    points = []
    for step in range(1, 101):
        point = {"step": 50 * step, "loss": 2.3 / step**0.5 + rng.uniform(0, 0.1), "accuracy": 1 - 0.8 / step**0.5}
        for layer in LAYERS:
            point |= {f"scale/{layer}.{side}": 0.1 + 0.001 * step * rng.uniform(0.9, 1.1) for side in ("weight", "act")}
        points.append(point)
    return {"qat": points}


if __name__ == "__main__":
    main()
