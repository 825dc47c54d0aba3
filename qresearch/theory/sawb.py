"""SAWB's coefficients: a line through the best clips of six distributions.

    a* / E|x| = c1 sqrt(E x^2) / E|x| + c2,    a* = argmin_a E (x - Q_a(x))^2,    Q_a: N equal steps from -a to a

Choi, Chuang, Wang, Venkataramani, Srinivasan, Gopalakrishnan, "Bridging the Accuracy Gap for 2-bit Quantized Neural
Networks (QNN)", 2018, arXiv:1807.06964. The line is fitted to a* / E|x| by ordinary least squares, each distribution
counted once, and a* is that of the distribution itself, where a fit to samples (which the paper's seems to be)
scatters: `tests/theory/test_sawb.py` draws 10,000 values of each and finds the published numbers inside that scatter.

Neither the samples nor the concentration of von Mises is known to us, and the paper's text was not at hand: its six
distributions are named from memory. The concentration here is 4, that of numpy's example; from 1 to 10 it moves c1 and
c2 of 2 bits between 3.11 and 3.18, and between -2.05 and -2.13.
"""

import math

import numpy as np

from qresearch.theory.computed import Computed
from qresearch.theory.densities import GAUSSIAN, LAPLACE, LOGISTIC, TRIANGULAR, UNIFORM, Density, von_mises
from qresearch.theory.uniform_grid import best_step

COUNTS = {f"{bits} bits": 2**bits for bits in (2, 3, 4, 5, 8)} | {
    f"{count} levels": count for count in (3, 15, 127, 255)
}


def coefficients(concentration: float = 4.0) -> list[Computed]:
    """c1 and c2, a row for each number of levels for which the authors' code has them."""
    densities = distributions(concentration)
    lines = {row: line(densities, count) for row, count in COUNTS.items()}
    return [Computed(row, f"c{i}", value) for row, pair in lines.items() for i, value in enumerate(pair, 1)]


def distributions(concentration: float = 4.0) -> tuple[Density, ...]:
    """The six."""
    return GAUSSIAN, UNIFORM, LAPLACE, LOGISTIC, TRIANGULAR, von_mises(concentration)


def line(densities: tuple[Density, ...], count: int) -> tuple[float, float]:
    """(c1, c2) for that number of levels."""
    ratios, clips = np.transpose([point(density, count) for density in densities])
    c1, c2 = np.polyfit(ratios, clips, 1)
    return float(c1), float(c2)


def point(density: Density, count: int) -> tuple[float, float]:
    """(sqrt(E x^2), a*) in mean magnitudes: a point near the line."""
    clip = best_step(density, count) * (count - 1) / 2
    return math.sqrt(density.mean_square) / density.mean_magnitude, clip / density.mean_magnitude
