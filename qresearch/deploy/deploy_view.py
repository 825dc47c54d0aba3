"""The figures of a deployment in the terminal."""

from pathlib import Path
from typing import Any

from rich.table import Table

from qresearch.evaluation.cost import LayerCost
from qresearch.reports.console import console

HEADS = (
    "engine",
    "bytes",
    "of float32",
    "top-1 %",
    "as JAX int8 %",
    "LSB",
    "batch 1 ms",
    "batch 32 ms",
    "peak MB, 1 / 32",
)


def show(path: Path, found: dict[str, Any]) -> None:
    """One row for each engine, one for each layer, what sensors measured, and what is missing."""
    plural = "" if found["threads"] == 1 else "s"
    machine = f"{found['threads']} thread{plural}, {found['environment']['cpus']} CPUs"
    title = f"{path}: {machine}, {found['images']:,} test images"
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number == 0 else "right")
    for row in found["engines"]:
        table.add_row(*_cells(row, found["float_bytes"]))
    console.print(table)
    packed, whole = found["files"]["safetensors"], found["float_bytes"]
    line = f"packed file: {packed:,} bytes, {packed / whole:.3f} of {whole:,} bytes of float32"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_layers(found))
    estimate = f"uJ: an estimate from the operations and bytes counted and the table of {found['table']}"
    for line in [estimate, *_measured(found), *found["missing"]]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(row: dict[str, Any], whole: int) -> list[str]:
    size, share = ("", "") if row["bytes"] is None else (f"{row['bytes']:,}", f"{row['bytes'] / whole:.3f}")
    agreement = f"{100 * row['agreement']:.2f}" if "agreement" in row else ""
    times = [
        f"{each['median_ms']:.3f} ({each['low_ms']:.3f}-{each['high_ms']:.3f})" for each in row["latency"].values()
    ]
    peaks = ["?" if peak is None else f"{peak / 1e6:.1f}" for peak in row["peak_bytes"].values()]
    lsb = str(row.get("largest_lsb", ""))
    return [row["engine"], size, share, f"{row['top1']:.2f}", agreement, lsb, *times, " / ".join(peaks)]


def _layers(found: dict[str, Any]) -> Table:
    """What each layer of the quantized network costs for one image, and what both networks do in all."""
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(("layer, one image", "MACs", "BitOps", "kB moved", "uJ arithmetic", "uJ memory")):
        table.add_column(head, justify="left" if number == 0 else "right")
    quantized = found["costs"]["quantized"]
    for layer, cost in quantized.items():
        table.add_row(layer, *_cost(cost))
    for name, costs in (("all, quantized", quantized), ("all, float32", found["costs"]["float32"])):
        table.add_row(name, *_cost({kind: sum(cost[kind] for cost in costs.values()) for kind in LayerCost._fields}))
    return table


def _cost(cost: dict[str, Any]) -> list[str]:
    energies = (cost["energy_arithmetic_uj_estimate"], cost["energy_memory_uj_estimate"])
    numbers = (cost["bytes_moved"] / 1e3, *energies)
    return [f"{cost['macs']:,}", f"{cost['bitops']:.3g}", *(f"{number:.4g}" for number in numbers)]


def _measured(found: dict[str, Any]) -> list[str]:
    """What sensors measured, which has nothing to do with the estimates."""
    measured = {row["engine"]: row["joules"] for row in found["engines"] if row["joules"]}
    lines = []
    for engine, joules in measured.items():
        said = ", ".join(f"{1e3 * amount:.3f} mJ ({sensor})" for sensor, amount in joules.items())
        lines.append(f"{engine}: measured {said} an image at batch 1, everything the sensor sees")
    return lines or ["measured energy: no sensor here that can be read (RAPL, NVML)"]
