"""Max's tables: what agrees, and why the rest of his digits is off.

Two arguments of our own: his conditions and errors by numerical integration, and his procedure, run from the y1 that
he prints.
"""

import itertools

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from qresearch.reports.published import published
from qresearch.theory.max1960 import SIZES, lloyd_max_levels, quantizers

PRINTED = published("max1960_gaussian").values


def printed_levels(count):
    return np.array([float(PRINTED[f"levels: y{i}"][f"N = {count}"]) for i in range(1, count // 2 + 1)])


def integral(function, low, high):
    return integrate.quad(function, low, min(high, 12.0), epsabs=1e-14, epsrel=1e-12)[0]


def thresholds(levels):
    return [0.0, *(levels[1:] + levels[:-1]) / 2, np.inf]


def integrated_error(levels):
    """Of levels above zero and their mirror images."""
    cells = zip(levels, *(thresholds(levels)[i:] for i in (0, 1)), strict=False)
    return 2 * sum(integral(lambda x, y=y: (x - y) ** 2 * stats.norm.pdf(x), low, high) for y, low, high in cells)


def test_what_agrees_with_max(check_table):
    cells = check_table("max1960", reproduced=38, of=67)
    assert all(cells["equal steps: step", f"N = {count}"].reproduced for count in (2, 4, 8, 16, 32))
    assert all(cell.reproduced for (_, column), cell in cells.items() if column == "N = 4")


def test_all_sizes_agree_with_an_independent_computation(check_table):
    cells = check_table("gaussian_quantizers", reproduced=331, of=331)
    assert {row for row, _ in cells} == {f"N = {count}" for count in SIZES} >= {f"N = {n}" for n in range(2, 37)}


@pytest.mark.parametrize("count", [2, 8, 16, 32])
def test_our_levels_meet_his_conditions(count):
    levels = lloyd_max_levels(count)
    for y, (low, high) in zip(levels, itertools.pairwise(thresholds(levels)), strict=True):
        mass = integral(stats.norm.pdf, low, high)
        assert y == pytest.approx(integral(lambda x: x * stats.norm.pdf(x), low, high) / mass, abs=1e-9)


@pytest.mark.parametrize("count", [16, 32])
def test_his_errors_are_below_what_his_levels_have(count):
    printed = float(PRINTED["levels: squared error"][f"N = {count}"])
    ours, his = integrated_error(lloyd_max_levels(count)), integrated_error(printed_levels(count))
    assert printed < ours - 3e-6 and ours <= his < ours + 2e-8


def from_first_level(y, count):
    """Max's procedure: y1 gives the threshold that makes it the mean of its cell, and that gives the next level."""
    levels, low = [y], 0.0
    for _ in range(count // 2 - 1):

        def excess(high, low=low, y=y):
            return (stats.norm.pdf(low) - stats.norm.pdf(high)) / (special.ndtr(high) - special.ndtr(low)) - y

        low = optimize.brentq(excess, low + 1e-9, low + 5)
        y = 2 * low - y
        levels.append(y)
    return np.array(levels)


@pytest.mark.parametrize(("count", "first"), [(16, 0.12841), (32, 0.065902)])
def test_his_procedure_gives_his_digits(count, first):
    """From a y1 that rounds to his, and is 1e-5 off, come his last levels, 2e-3 off; from ours come ours."""
    units = np.array(
        [10.0 ** -len(PRINTED[f"levels: y{i}"][f"N = {count}"].partition(".")[2]) for i in range(1, count // 2 + 1)]
    )
    assert abs(first - printed_levels(count)[0]) < units[0]
    assert np.all(np.abs(from_first_level(first, count) - printed_levels(count)) < units)
    ours = lloyd_max_levels(count)
    np.testing.assert_allclose(from_first_level(ours[0], count), ours, atol=1e-7)


def test_the_other_digits_of_his():
    assert float(PRINTED["levels: y1"]["N = 2"]) > np.sqrt(2 / np.pi) + 1e-4
    assert np.floor(integrated_error(lloyd_max_levels(8)) * 1e5) / 1e5 == 0.03454  # cut off
    assert np.mean(printed_levels(8)[:2]) == pytest.approx(0.50055)  # rounded once more


def test_the_rows_of_all_sizes():
    columns = {}
    for cell in quantizers():
        columns.setdefault(cell.row, []).append(cell.column)
    assert len(columns["N = 36"]) == 7 and len(columns["N = 128"]) == 4
    assert columns["N = 16"][-8:] != columns["N = 16"][:8] and "lloyd-max y8" in columns["N = 15"]
