"""`qresearch deploy RESULT`: bytes, latency, memory and energy, measured, printed, and kept in the record."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """Bytes, accuracy, latency, memory and energy of a quantized network and of the float one it comes from.

Every runtime that is installed is measured: ONNX Runtime (extra `onnx`), LiteRT (extra `litert`), and JAX. What is
found is added to the result's record (`deployment`, and metrics such as litert_bytes), where reports and tables read
it."""


def main(arguments: list[str]) -> None:
    """Measure, print and keep; exits with 2 for a wrong command line and 1 for anything else."""
    parser = argparse.ArgumentParser(
        prog="qresearch deploy", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "result", type=Path, help="a result.json, its folder, or a folder of runs: all that fit are measured"
    )
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of the results, such as weight.bits=8"
    )
    parser.add_argument("--threads", type=int, default=len(_cores()), help="of every runtime; all cores")
    parser.add_argument("--rounds", type=int, default=100, help="calls of each engine that are timed, 20 at least; 100")
    options = parser.parse_intermixed_args(arguments)
    cores = _cores()
    if not 1 <= options.threads <= len(cores):
        parser.error(f"--threads={options.threads} is outside 1..{len(cores)}, the cores that this process may use.")
    if options.rounds < 20:
        parser.error(f"--rounds={options.rounds} is too few for percentiles; take 20 or more.")
    if options.threads < len(cores):
        _keep_to(cores[: options.threads])
    try:
        _deploy(options.result, options.settings, options.threads, options.rounds)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what was measured is kept.")


def _cores() -> list[int]:
    """The cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")  # Linux alone tells
    return sorted(os.sched_getaffinity(0)) if known else list(range(os.cpu_count() or 1))


def _keep_to(cores: list[int]) -> None:
    """Use these cores alone: JAX takes as many threads as it finds cores."""
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("error: this system cannot keep JAX to fewer cores; leave --threads out.")
    os.sched_setaffinity(0, cores)


def _deploy(place: Path, settings: list[str], threads: int, rounds: int) -> None:
    from qresearch.deploy.deploy_view import show
    from qresearch.deploy.figures import figures
    from qresearch.deploy.result import find_results, load_networks
    from qresearch.store.record import environment, write_json

    records = find_results(place, settings)
    quantized = [record for record in records if record["config"]["method"]["name"] != "float"] or records
    refused = 0
    for record in quantized:
        try:
            networks = load_networks(record)
        except ValueError as error:
            if len(quantized) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
            refused += 1
            continue
        found = figures(networks, threads=threads, rounds=rounds) | {"environment": environment()}
        path = Path(record["path"])
        kept = {key: value for key, value in record.items() if key != "path"}
        write_json(path, kept | {"deployment": found, "metrics": kept["metrics"] | metrics(found)})
        show(path, found)
    if refused:
        sys.exit(1)


def metrics(found: dict[str, Any]) -> dict[str, float | int]:
    """The figures of a deployment as metrics of a record: `litert_bytes`, `litert_latency_ms` (batch 1),
    `litert_latency_ratio` (to the same runtime in float32), `litert_top1`, `litert_agreement`, and so on by runtime.
    """
    metrics, rows = {}, {(row["runtime"], row["precision"]): row for row in found["engines"]}
    for (runtime, precision), row in rows.items():
        if precision != "int8":
            continue
        latency = row["latency"]["1"]["median_ms"]
        metrics |= {f"{runtime}_latency_ms": latency, f"{runtime}_top1": row["top1"]}
        metrics[f"{runtime}_agreement"] = row["agreement"]
        if row["bytes"] is not None:
            metrics[f"{runtime}_bytes"] = row["bytes"]
            if (runtime, "float32") in rows:
                metrics[f"{runtime}_bytes_float"] = rows[runtime, "float32"]["bytes"]
        if (runtime, "float32") in rows:
            metrics[f"{runtime}_latency_ratio"] = latency / rows[runtime, "float32"]["latency"]["1"]["median_ms"]
    return metrics
