"""QuEST's scales: the error by integration is lower at ours than at the printed constants."""

import numpy as np
import pytest
from scipy import stats

from qresearch.core.spec import QuantSpec
from qresearch.grids.mid_rise import MidRise
from qresearch.observers.gaussian import unit_scale
from qresearch.reports.published import published
from qresearch.theory.quest import COLUMN, COUNTS, outermost_level

PRINTED = {row: float(line[COLUMN]) for row, line in published("quest_gaussian_scales").values.items()}
X = (np.arange(400_000) + 0.5) * (12 / 400_000)  # half of the axis
WEIGHTS = 2 * stats.norm.pdf(X) * (12 / 400_000)


def integrated_error(outermost, count):
    levels = np.linspace(-outermost, outermost, count)
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, X)]
    return np.sum(WEIGHTS * (X - nearest) ** 2)


def test_the_table(check_table):
    cells = check_table("quest_gaussian", reproduced=4, of=9)
    off = [row for (row, _), cell in cells.items() if not cell.reproduced]
    assert off == ["4 bits", "5 bits", "6 bits", "7 bits", "8 bits"]
    relative = {row: cell.value / float(cell.printed) - 1 for (row, _), cell in cells.items()}
    assert relative["4 bits"] < 3e-5 and relative["5 bits"] < 2e-5 and relative["6 bits"] < 5e-4
    assert relative["7 bits"] == pytest.approx(0.0028, abs=1e-4) and relative["8 bits"] == pytest.approx(
        0.0096, abs=1e-4
    )


@pytest.mark.parametrize("row", COUNTS)
def test_the_error_is_least_at_ours(row):
    ours, count = outermost_level(COUNTS[row]), COUNTS[row]
    least = integrated_error(ours, count)
    for other in (ours * 0.999, ours * 1.001, ours * 0.98, ours * 1.02):
        assert least < integrated_error(other, count)
    if abs(PRINTED[row] - ours) > 1e-4:  # nearer, the sum over points cannot tell
        assert least < integrated_error(PRINTED[row], count)


def test_one_bit_is_the_mean_magnitude():
    assert outermost_level(2) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-14)
    assert 1e-9 < abs(PRINTED["1 bit"] - np.sqrt(2 / np.pi)) < 3e-9


def test_the_observer_finds_them_too():
    """Its search tells scales apart that differ by 0.14 %."""
    for bits in (4, 7, 8):
        found = float(unit_scale(QuantSpec(MidRise(bits))) * MidRise(bits).high)
        assert found == pytest.approx(outermost_level(2**bits), rel=2e-3)
