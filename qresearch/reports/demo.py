"""`qresearch demo`: what bits do to a network, PTQ beside QAT, in a table and a picture."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from qresearch.reports.comparison import compare, comparison_table
from qresearch.reports.console import console
from qresearch.reports.curves import Series, draw_curves
from qresearch.reports.statistics import mean_interval, shown
from qresearch.reports.sweep_display import SweepDisplay

NEXT = """What to try next (`qresearch` is .venv/bin/qresearch):
  qresearch run method=ptq weight.bits=4 act.bits=4          one cell, its audit, and the anatomy of its error
  qresearch run method=ptq export.parity=true                is it really integer? simulated beside integer codes
  qresearch export runs/demo method=qat weight.bits=8 weight.granularity=channel seed=0 --to litert -o digits.tflite
  qresearch deploy runs/demo method=qat weight.bits=8 weight.granularity=channel seed=0    its bytes, latency, energy
  qresearch run method=ptq act.bits=4 observer@act.observer=mse    another rule for the range of activations
  qresearch report runs/demo -o runs/demo.html               all of it in one page: error by layer, curves, pairs
  qresearch sweep data=mnist method=ptq,qat weight.bits=8,2  other data (downloaded once)
  qresearch run experiment=ptq_cifar10                       the published ResNet-20 at 8 bits
  qresearch run --help                                       every key"""


class Point(NamedTuple):
    """The cells of one table row: one for each seed."""

    method: str
    granularity: str
    bits: int


def show_demo(folder: Path, found: list[dict[str, Any]]) -> None:
    """Print the table of mean and spread over seeds, draw the curves, and say where everything lies."""
    records = [record for record in found if record["status"] == "finished"]
    if not records:
        console.print(f"No cell of {folder} has finished; the messages above say why.", soft_wrap=True)
        return
    cells: dict[Point, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        config = record["config"]
        weight = config["weight"]
        cells[Point(config["method"]["name"], weight["granularity"], weight["bits"])].append(record["metrics"])
    float_top1 = [metrics["top1_float"] for group in cells.values() for metrics in group]
    console.print(demo_table(cells))
    console.print(comparison_table(compare(records, "method"), title="the same seeds in pairs"))
    picture = draw_curves(
        folder / "demo.png",
        [
            ("Top-1 accuracy (%)", _series(cells, "top1"), float(np.mean(float_top1))),
            ("SQNR of the worst layer's weights (dB)", _series(cells, "sqnr_weight_db_min"), None),
        ],
        title="Digits: accuracy and quantization error against the bits of weights and activations\n"
        "(first and last layer: 8 bits; bands: 95 % intervals over the seeds)",
    )
    console.print(f"float baseline: {np.mean(float_top1):.2f} % (mean of the seeds)", highlight=False)
    console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
    console.print(f"results: {folder} (a result.json for every cell)", highlight=False, soft_wrap=True)
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)
    print(SweepDisplay.totals, flush=True)


def demo_table(cells: dict[Point, list[dict[str, Any]]]) -> Table:
    """Rows: method and granularity; columns: bits; cells: mean top-1 and its 95 % interval over seeds."""
    widths = sorted({point.bits for point in cells}, reverse=True)
    table = Table(
        title="top-1 %, mean and 95 % interval over seeds",
        box=None,
        title_justify="left",
        header_style="bold",
    )
    for column in ("method", "scale per", *(f"{bits} bits" for bits in widths)):
        table.add_column(column, justify="left" if column in ("method", "scale per") else "right", no_wrap=True)
    for method, granularity in dict.fromkeys(point[:2] for point in cells):
        row = [cells.get(Point(method, granularity, bits), []) for bits in widths]
        table.add_row(
            method.upper(),
            granularity,
            *(shown(mean_interval([m["top1"] for m in group]), 1) if group else "-" for group in row),
        )
    return table


def _series(cells: dict[Point, list[dict[str, Any]]], metric: str) -> list[Series]:
    lines = []
    for method, granularity in dict.fromkeys(point[:2] for point in cells):
        points = {point.bits: group for point, group in cells.items() if point[:2] == (method, granularity)}
        values = {bits: [metrics[metric] for metrics in group if metric in metrics] for bits, group in points.items()}
        lines.append(Series(f"{method.upper()}, one scale per {granularity}", values, dashed=granularity == "tensor"))
    return lines
