"""The figures of a deployment in the terminal."""

from pathlib import Path
from typing import Any

from rich.table import Table

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
    """One row for each engine, then energy, and what is missing."""
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
    lines = [f"packed file: {packed:,} bytes, {packed / whole:.3f} of {whole:,} bytes of float32", *_energy(found)]
    for line in [*lines, *found["missing"]]:
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


def _energy(found: dict[str, Any]) -> list[str]:
    """Estimates, and apart from them what sensors measured."""
    energy, lines = found["energy"], []
    for name in ("float32", "quantized"):
        cost = energy[name]
        arithmetic, memory = cost["energy_arithmetic_uj_estimate"], cost["energy_memory_uj_estimate"]
        lines.append(
            f"{name}: {cost['macs']:,} MACs, {cost['bitops']:.3g} BitOps an image; estimated energy "
            f"{arithmetic:.1f} uJ arithmetic + {memory:.1f} uJ memory ({energy['table']})"
        )
    measured = {row["engine"]: row["joules"] for row in found["engines"] if row["joules"]}
    for engine, joules in measured.items():
        said = ", ".join(f"{1e3 * amount:.3f} mJ ({sensor})" for sensor, amount in joules.items())
        lines.append(f"{engine}: measured {said} an image at batch 1, everything the sensor sees")
    return lines if measured else [*lines, "measured energy: no sensor here that can be read (RAPL, NVML)"]
