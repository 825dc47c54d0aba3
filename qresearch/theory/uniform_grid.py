"""The symmetric grid of equal steps that has the least squared error for a density.

    levels  y_i = s u_i,  u_i = (i - (N - 1) / 2)    error  D(s)    dD/ds = 2 (s sum_i u_i^2 P_i - sum_i u_i M_i) = 0

As every value takes the nearest level, moving a threshold between two levels changes nothing at first order, so the
derivative has no other term. D may have several minima: the lowest of CANDIDATES is where the root is sought.

Max, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6(1), 1960.
"""

import numpy as np
from scipy.optimize import root_scalar

from qresearch.theory.cells import cells, error
from qresearch.theory.densities import Density

LOWEST, HIGHEST = 0.5, 40.0  # where the outermost level is sought, in mean magnitudes
CANDIDATES = 200


def unit_levels(count: int) -> np.ndarray:
    """The levels from zero upwards of `count` levels one apart."""
    return np.arange(count // 2) + 0.5 if count % 2 == 0 else np.arange(count // 2 + 1.0)


def slope(density: Density, count: int, step: float) -> float:
    """Half of dD/ds, of the half above zero."""
    units = unit_levels(count)
    mass, moment = cells(density, step * units)
    return float(np.sum(units * (step * units * mass - moment)))


def best_step(density: Density, count: int) -> float:
    """The step of least squared error.

    Raises ValueError for fewer than two levels.
    """
    if count < 2:
        raise ValueError(f"count={count}: a grid with a step has at least 2 levels.")
    units = unit_levels(count)
    clips = density.mean_magnitude * np.geomspace(LOWEST, HIGHEST, CANDIDATES)
    steps = np.minimum(clips, 2 * density.reach) / units[-1]
    at = int(np.argmin([error(density, step * units) for step in steps]))
    around = (steps[max(at - 1, 0)], steps[min(at + 1, CANDIDATES - 1)])
    return float(root_scalar(lambda step: slope(density, count, step), bracket=around, xtol=1e-15, rtol=1e-14).root)
