"""The quantizers of least squared error for the Gaussian: N equal steps, or N levels wherever they are best.

    equal steps  s = argmin_s E (x - Q_s(x))^2            (`uniform_grid.best_step`)
    any levels   y_i = E[x | cell i],  t_i = (y_i + y_(i+1)) / 2   (`grids/lloyd_max.optimal_levels`)

Max, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960: Table I has levels and
thresholds for N = 1 to 36, Table II equal steps; both the mean squared error, and the entropy of the codes.
"""

import itertools

import numpy as np

from qresearch.grids.lloyd_max import Distribution, optimal_levels
from qresearch.theory.cells import decibels, entropy, error
from qresearch.theory.computed import Computed
from qresearch.theory.densities import GAUSSIAN
from qresearch.theory.uniform_grid import best_step, unit_levels

PRINTED = (2, 4, 8, 16, 32)  # the sizes of his tables of which a copy was at hand
SIZES = (*range(2, 37), 64, 128, 256)
LISTED = 16  # the size up to which levels are listed


def lloyd_max_levels(count: int) -> np.ndarray:
    """The best levels for N(0, 1), from zero upwards."""
    return optimal_levels(count, Distribution.gaussian)[count // 2 :]


def tables() -> list[Computed]:
    """Max's tables at the sizes PRINTED: a row for each quantity, a column for each size."""
    found = []
    for count in PRINTED:
        levels = lloyd_max_levels(count)
        rows = {"equal steps: step": best_step(GAUSSIAN, count), "levels: squared error": error(GAUSSIAN, levels)}
        rows |= {f"levels: y{i}": level for i, level in enumerate(levels, 1)}
        rows |= {f"levels: x{i}": (a + b) / 2 for i, (a, b) in enumerate(itertools.pairwise(levels), 2)}
        found += [Computed(row, f"N = {count}", float(value)) for row, value in rows.items()]
    return found


def quantizers() -> list[Computed]:
    """Both kinds for all SIZES: a row for each size."""
    return [cell for count in SIZES for cell in (*_uniform(count), *_lloyd_max(count))]


def _uniform(count: int) -> list[Computed]:
    step = best_step(GAUSSIAN, count)
    return _measures(count, "uniform", step * unit_levels(count), {"step": step})


def _lloyd_max(count: int) -> list[Computed]:
    if count > 64:
        return []
    levels = lloyd_max_levels(count)
    listed = {f"y{i}": float(level) for i, level in enumerate(levels, 1)} if count <= LISTED else {}
    return _measures(count, "lloyd-max", levels, listed)


def _measures(count: int, kind: str, levels: np.ndarray, further: dict[str, float]) -> list[Computed]:
    measures = further | {
        "squared error": error(GAUSSIAN, levels),
        "entropy": entropy(GAUSSIAN, levels),
        "SQNR dB": decibels(GAUSSIAN, levels),
    }
    return [Computed(f"N = {count}", f"{kind} {name}", value) for name, value in measures.items()]
