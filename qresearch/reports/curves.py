"""Curves against bits as a PNG file: the mean of the seeds as a line, its 95 % interval as a band."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qresearch.reports.statistics import mean_interval

# Okabe & Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


class Series(NamedTuple):
    """One line: for every bit-width, a value for each seed."""

    name: str
    values: Mapping[int, Sequence[float]]
    dashed: bool = False


def draw_curves(path: Path, panels: Sequence[tuple[str, Sequence[Series], float | None]], *, title: str) -> Path:
    """Draw panels (label of the y axis, lines, height of the float reference or None) side by side; returns `path`."""
    from matplotlib.figure import Figure  # imported late: it takes half a second
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axis, (label, lines, reference) in zip(axes, panels, strict=True):
        if reference is not None:
            axis.axhline(reference, color="#555555", linewidth=1, linestyle=":", label="float")
        for index, line in enumerate(lines):
            bits = sorted(line.values)
            values = [np.asarray(line.values[b], float) for b in bits]
            colour = COLOURS[index % len(COLOURS)]
            intervals = [mean_interval(v) for v in values]
            means, halves = [each.mean for each in intervals], [each.half or 0 for each in intervals]
            axis.plot(bits, means, "--" if line.dashed else "-", marker="o", color=colour, label=line.name)
            axis.fill_between(
                bits,
                np.subtract(means, halves),
                np.add(means, halves),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        axis.set(xlabel="bits", ylabel=label)
        if "(%)" in label:
            axis.set_ylim(max(0, axis.get_ylim()[0]), min(101, axis.get_ylim()[1]))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
    figure.suptitle(title)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
