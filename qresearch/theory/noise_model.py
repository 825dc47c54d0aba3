"""The classical forms of quantization noise, beside the error that our quantizer makes.

    even noise     E = step^2 / 12, step = 2 x_max / 2^b:    SQNR = 6.02 b + 10 log10(12 sigma^2 / (2 x_max)^2) dB
    best levels    E 4^b -> (integral of p^(1/3))^3 / 12     (b large; `grids/lloyd_max.py`)
    coded codes    E 4^H -> sigma^2 pi e / 6                 (equal steps, small; H the entropy of the codes)

The column "limit" is the constant of a form, by integration of the density. The others hold what our quantizer
(`core/qtensor.quantize`) does at that width to POINTS evenly spaced values, weighted with the density; the sums agree
with the integrals to four digits or more. The grid is mid-rise over -x_max..x_max, or the Lloyd-Max levels. So the
columns show where a form may be used, and where not.

Bennett, "Spectra of Quantized Signals", Bell System Technical Journal 27(3), 1948; Panter, Dite, "Quantization
Distortion in Pulse-Count Modulation with Nonuniform Spacing of Levels", Proceedings of the IRE 39(1), 1951; Gish,
Pierce, "Asymptotically Efficient Quantizing", IEEE Transactions on Information Theory 14(5), 1968, for the last form.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import integrate, special

from qresearch.core.qtensor import dequantize, quantize
from qresearch.core.spec import QuantSpec
from qresearch.grids.lloyd_max import LARGEST_BITS, Distribution, lloyd_max
from qresearch.grids.mid_rise import MidRise
from qresearch.theory.computed import Computed

LIMIT = "limit"
BITS = (4, 8, 12)
POINTS = 200_003  # a prime, so that no step is a multiple of their distance
WIDE = 8.0  # standard deviations beyond which a Gaussian has nothing to lose


class Signal(NamedTuple):
    """Values and their probabilities."""

    x: np.ndarray
    weights: np.ndarray

    @property
    def mean_square(self) -> float:
        return float(np.sum(self.weights * self.x.astype(np.float64) ** 2))


class Measured(NamedTuple):
    error: float  # mean squared
    entropy: float  # of the codes, in bits


def forms() -> list[Computed]:
    """A row for each form; columns: LIMIT and the widths."""
    gaussian = weighted(lambda x: np.exp(-(x**2) / 2), WIDE + 1)
    laplace = weighted(lambda x: np.exp(-math.sqrt(2) * np.abs(x)), 30.0)
    rows = {
        "error / step^2, even input": _even(),
        "dB per bit, even input": _even_input(),
        "SQNR - 6.02 b, sine of full scale": _loaded(sine(), 1.0),
        "SQNR - 6.02 b + 20 log10(x_max / sigma)": _loaded(gaussian, WIDE, 20 * math.log10(WIDE)),
        "SQNR - 6.02 b + 20 log10(2 x_max / sigma)": _loaded(gaussian, WIDE, 20 * math.log10(2 * WIDE)),
        "SQNR - 6.02 b, x_max = 4 sigma": _loaded(gaussian, 4.0),
        "error 4^b, best levels, Gaussian": _best_levels(gaussian, Distribution.gaussian),
        "error 4^b, best levels, Laplace": _best_levels(laplace, Distribution.laplace),
        "dB above rate-distortion, best levels": _best_levels(gaussian, Distribution.gaussian, in_db=True),
        "dB above rate-distortion, coded codes": _coded(gaussian),
    }
    return [Computed(row, column, value) for row, cells in rows.items() for column, value in cells.items()]


def weighted(density: Callable[[np.ndarray], np.ndarray], reach: float) -> Signal:
    """Values over -reach..reach, weighted with a density that need not be normalized."""
    x = (reach * _between()).astype(np.float32)
    weights = density(x.astype(np.float64))
    return Signal(x, weights / np.sum(weights))


def sine() -> Signal:
    """A sine of amplitude 1, at evenly spaced phases."""
    return Signal(np.sin(math.pi * _between()).astype(np.float32), np.full(POINTS, 1 / POINTS))


def measure(signal: Signal, scale: float, grid: Any) -> Measured:
    """What our quantizer does to the values, in float32; the sums are float64."""
    q = quantize(jnp.asarray(signal.x), jnp.full((1,), scale, jnp.float32), None, QuantSpec(grid))
    squared = (np.asarray(dequantize(q), np.float64) - signal.x) ** 2
    codes = np.asarray(q.codes, np.int64)
    shares = np.bincount(codes - codes.min(), signal.weights)
    return Measured(float(np.sum(signal.weights * squared)), float(np.sum(special.entr(shares))) / math.log(2))


def _between() -> np.ndarray:
    return (2 * np.arange(POINTS) + 1) / POINTS - 1


def _step(x_max: float, bits: int) -> float:
    return x_max * 2.0 ** (1 - bits)


def _decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def _columns(limit: float, at: Callable[[int], float], largest: int = max(BITS)) -> dict[str, float]:
    return {LIMIT: limit} | {f"{bits} bits": at(bits) for bits in BITS if bits <= largest}


def _even() -> dict[str, float]:
    signal = weighted(np.ones_like, 1.0)
    limit, _ = integrate.quad(lambda e: e**2, -0.5, 0.5)
    return _columns(limit, lambda b: measure(signal, _step(1.0, b), MidRise(b)).error / _step(1.0, b) ** 2)


def _even_input() -> dict[str, float]:
    signal = weighted(np.ones_like, 1.0)

    def at(bits):
        return _decibels(signal.mean_square / measure(signal, _step(1.0, bits), MidRise(bits)).error) / bits

    return _columns(_decibels(4.0), at)


def _loaded(signal: Signal, x_max: float, offset: float = 0.0) -> dict[str, float]:
    """SQNR - 6.02 b + offset."""

    def at(bits):
        error = measure(signal, _step(x_max, bits), MidRise(bits)).error
        return _decibels(signal.mean_square / error / 4.0**bits) + offset

    return _columns(_decibels(12 * signal.mean_square / (2 * x_max) ** 2) + offset, at)


def _best_levels(signal: Signal, distribution: Distribution, *, in_db: bool = False) -> dict[str, float]:
    """The error of Lloyd-Max levels, the variance being 1."""
    shown = _decibels if in_db else float

    def at(bits):
        return shown(measure(signal, 1.0, lloyd_max(bits, distribution)).error * 4.0**bits)

    return _columns(shown(cube_root_integral(distribution) ** 3 / 12), at, LARGEST_BITS)


def cube_root_integral(distribution: Distribution) -> float:
    """The integral of p^(1/3) for the density p of variance 1."""
    density = {
        Distribution.gaussian: lambda x: math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
        Distribution.laplace: lambda x: math.exp(-math.sqrt(2) * x) / math.sqrt(2),
    }[distribution]
    half, _ = integrate.quad(lambda x: density(x) ** (1 / 3), 0, 60, epsabs=1e-12)
    return 2 * half


def _coded(signal: Signal) -> dict[str, float]:
    def at(bits):
        found = measure(signal, _step(WIDE, bits), MidRise(bits))
        return _decibels(found.error * 4**found.entropy)

    # The entropy of small steps is that of the density, h, less log2 step: E 4^H -> 4^h / 12, and 4^h = 2 pi e here.
    h, _ = integrate.quad(lambda x: special.entr(math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)), -30, 30)
    return _columns(_decibels(4 ** (h / math.log(2)) / 12), at)
