"""What is measured with our quantizer against closed forms, and the constants against theirs."""

import functools
import math

import numpy as np
import pytest

from qresearch.grids.lloyd_max import Distribution, optimal_levels
from qresearch.grids.mid_rise import MidRise
from qresearch.theory.cells import entropy, error
from qresearch.theory.densities import GAUSSIAN
from qresearch.theory.max1960 import lloyd_max_levels
from qresearch.theory.noise_model import BITS, LIMIT, cube_root_integral, forms, measure, sine, weighted
from qresearch.theory.uniform_grid import unit_levels


@functools.cache
def found():
    return {(cell.row, cell.column): cell.value for cell in forms()}


def in_decibels(ratio):
    return 10 * math.log10(ratio)


def test_the_table(check_table):
    cells = check_table("noise_model", reproduced=26, of=37)
    assert all(cell.reproduced for (_, column), cell in cells.items() if column == LIMIT)
    assert all(cell.reproduced for (row, _), cell in cells.items() if "even input" in row or "x_max / sigma" in row)


def test_the_constants_in_closed_form():
    closed = [
        ("error / step^2, even input", 1 / 12),
        ("dB per bit, even input", 20 * math.log10(2)),
        ("SQNR - 6.02 b, sine of full scale", in_decibels(1.5)),
        ("SQNR - 6.02 b + 20 log10(x_max / sigma)", in_decibels(3)),
        ("SQNR - 6.02 b + 20 log10(2 x_max / sigma)", in_decibels(12)),
        ("SQNR - 6.02 b, x_max = 4 sigma", in_decibels(3 / 16)),
        ("error 4^b, best levels, Gaussian", math.sqrt(3) * math.pi / 2),
        ("error 4^b, best levels, Laplace", 4.5),
        ("dB above rate-distortion, best levels", in_decibels(math.sqrt(3) * math.pi / 2)),
        ("dB above rate-distortion, coded codes", in_decibels(math.pi * math.e / 6)),
    ]
    assert {row for row, _ in found()} == {row for row, _ in closed}
    for row, value in closed:
        assert found()[row, LIMIT] == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("bits", BITS)
def test_gaussian_noise_as_integrated(bits):
    def exact(x_max):
        return error(GAUSSIAN, x_max * 2.0 ** (1 - bits) * unit_levels(2**bits))

    clipped = found()["SQNR - 6.02 b, x_max = 4 sigma", f"{bits} bits"]
    assert clipped == pytest.approx(in_decibels(1 / exact(4.0) / 4.0**bits), abs=1e-4)
    wide = found()["SQNR - 6.02 b + 20 log10(x_max / sigma)", f"{bits} bits"]
    assert wide == pytest.approx(in_decibels(64 / exact(8.0) / 4.0**bits), abs=1e-4)
    coded = exact(8.0) * 4 ** entropy(GAUSSIAN, 8.0 * 2.0 ** (1 - bits) * unit_levels(2**bits))
    assert found()["dB above rate-distortion, coded codes", f"{bits} bits"] == pytest.approx(
        in_decibels(coded), abs=1e-3
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_best_levels_as_integrated(bits):
    exact = error(GAUSSIAN, lloyd_max_levels(2**bits)) * 4**bits
    assert found()["error 4^b, best levels, Gaussian", f"{bits} bits"] == pytest.approx(exact, rel=1e-5)
    levels = optimal_levels(2**bits, Distribution.laplace)
    x = (np.arange(2_000_000) + 0.5) * (40 / 2_000_000)
    weights = math.sqrt(2) * np.exp(-math.sqrt(2) * x) * (40 / 2_000_000)
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x)]
    laplace = np.sum(weights * (x - nearest) ** 2) * 4**bits
    assert found()["error 4^b, best levels, Laplace", f"{bits} bits"] == pytest.approx(laplace, rel=1e-4)


def test_the_forms_of_many_levels_are_approached_from_below():
    limit = math.sqrt(3) * math.pi / 2
    errors = [error(GAUSSIAN, lloyd_max_levels(2**bits)) * 4**bits for bits in range(1, 9)]
    assert np.all(np.diff(errors) > 0) and errors[-1] < limit
    assert (limit - errors[-1]) / (limit - errors[-2]) == pytest.approx(0.5, abs=0.05)  # as 1 / N


def test_a_sine_is_at_its_ends():
    """Its distance from the form halves with every two bits: the share of time in the outermost step falls so."""
    gaps = [10 * math.log10(1.5) - found()["SQNR - 6.02 b, sine of full scale", f"{bits} bits"] for bits in BITS]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.1) and gaps[1] / gaps[2] == pytest.approx(4, rel=0.1)


def test_a_measurement_in_a_slow_loop():
    signal, scale = sine(), 0.25
    few = type(signal)(signal.x[::20_000], np.full(11, 1 / 11))
    levels = scale * (np.arange(8) - 3.5)
    nearest = [min(levels, key=lambda level: abs(level - value)) for value in few.x]
    measured = measure(few, scale, MidRise(3))
    assert measured.error == pytest.approx(np.mean((few.x - np.array(nearest)) ** 2), rel=1e-6)
    shares = np.unique(nearest, return_counts=True)[1] / 11
    assert measured.entropy == pytest.approx(-np.sum(shares * np.log2(shares)), rel=1e-12)


def test_weights_add_up_to_one():
    signal = weighted(lambda x: 5 * np.exp(-(x**2) / 2), 9.0)
    assert np.sum(signal.weights) == pytest.approx(1) and signal.mean_square == pytest.approx(1, abs=1e-6)
    assert cube_root_integral(Distribution.laplace) ** 3 == pytest.approx(54, rel=1e-9)
