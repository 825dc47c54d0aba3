"""Symmetric densities, given by their tails in closed form.

    mass(t) = P(x > t),    moment(t) = integral of x p(x) from t on,    t >= 0

A quantizer that takes the nearest level needs no more: its cells are differences of tails.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special


class Tails(NamedTuple):
    mass: np.ndarray
    moment: np.ndarray


class Density(NamedTuple):
    name: str
    mean_square: float
    reach: float  # the largest magnitude
    tails: Callable[[np.ndarray], Tails]

    @property
    def mean_magnitude(self) -> float:
        return 2 * float(self.tails(np.zeros(1)).moment[0])


def _gaussian(t):
    return Tails(special.erfc(t / math.sqrt(2)) / 2, np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi))


def _laplace(t):
    return Tails(np.exp(-t) / 2, np.exp(-t) * (t + 1) / 2)


def _uniform(t):
    t = np.minimum(t, 1.0)
    return Tails((1 - t) / 2, (1 - t**2) / 4)


def _triangular(t):
    t = np.minimum(t, 1.0)
    return Tails((1 - t) ** 2 / 2, (1 - t) ** 2 * (1 + 2 * t) / 6)


def _logistic(t):
    return Tails(special.expit(-t), t * special.expit(-t) + np.log1p(np.exp(-t)))


GAUSSIAN = Density("gaussian", 1.0, math.inf, _gaussian)
LAPLACE = Density("laplace", 2.0, math.inf, _laplace)  # e^-|x| / 2
UNIFORM = Density("uniform", 1 / 3, 1.0, _uniform)  # from -1 to 1
TRIANGULAR = Density("triangular", 1 / 6, 1.0, _triangular)  # 1 - |x|
LOGISTIC = Density("logistic", math.pi**2 / 3, math.inf, _logistic)


def von_mises(concentration: float) -> Density:
    """The density exp(k cos x) / (2 pi I_0(k)) on -pi..pi, as the series 1 / (2 pi) + sum_j c_j cos(j x) / pi.

    Raises ValueError for a concentration k that is negative or not finite.
    """
    if not 0 <= concentration < math.inf:
        raise ValueError(f"concentration={concentration}: give a number from 0 (all angles alike) upwards.")
    order = np.arange(1, 40 + 4 * math.ceil(concentration))
    # I_j / I_0, both scaled by e^-k; what comes after these orders is below 1e-16.
    c = special.ive(order, concentration) / special.ive(0, concentration)

    def tails(t):
        t = np.minimum(t, math.pi)
        angle = np.multiply.outer(t, order)
        mass = (math.pi - t) / 2 - np.sin(angle) @ (c / order)
        cosines = (np.where(order % 2, -1.0, 1.0) - np.cos(angle)) @ (c / order**2)
        moment = (math.pi**2 - t**2) / 4 + cosines - t * (np.sin(angle) @ (c / order))
        return Tails(mass / math.pi, moment / math.pi)

    mean_square = math.pi**2 / 3 + 4 * float(np.sum(np.where(order % 2, -1.0, 1.0) * c / order**2))
    return Density(f"von mises {concentration:g}", mean_square, math.pi, tails)
