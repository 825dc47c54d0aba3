"""What a symmetric quantizer that takes the nearest level does to a density: its error and the entropy of its codes.

    D = E x^2 - 2 sum_i y_i M_i + sum_i y_i^2 P_i,    H = - sum_i P_i log2 P_i

P_i is the mass of the cell of level y_i, M_i the integral of x p(x) over it. Levels are given from zero upwards;
those below zero are their mirror images.
"""

import math

import numpy as np
from scipy import special

from qresearch.theory.densities import Density


def cells(density: Density, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, M) of the cells, as far as they lie above zero: a level at zero has half a cell there."""
    tails = density.tails(np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2]))
    return -np.diff(tails.mass, append=0.0), -np.diff(tails.moment, append=0.0)


def error(density: Density, levels: np.ndarray) -> float:
    """The mean squared error D."""
    mass, moment = cells(density, levels)
    return density.mean_square + 2 * float(np.sum(levels * (levels * mass - 2 * moment)))


def decibels(density: Density, levels: np.ndarray) -> float:
    """The signal to quantization noise ratio, 10 log10(E x^2 / D)."""
    return 10 * math.log10(density.mean_square / error(density, levels))


def entropy(density: Density, levels: np.ndarray) -> float:
    """The entropy H of the codes, in bits."""
    mass, _ = cells(density, levels)
    at_zero, above = (2 * mass[:1], mass[1:]) if levels[0] == 0 else (mass[:0], mass)
    return float(np.sum(special.entr(at_zero)) + 2 * np.sum(special.entr(above))) / math.log(2)
