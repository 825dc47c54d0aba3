"""SAWB's coefficients: our line is the least-squares line of the densities, and the published one lies as far from it
as fits to samples do.
"""

import numpy as np
import pytest
from scipy import optimize

from qresearch.quantizers.sawb import COEFFICIENTS
from qresearch.reports.published import published
from qresearch.theory.cells import error
from qresearch.theory.sawb import COUNTS, distributions, line, point
from qresearch.theory.uniform_grid import unit_levels

PRINTED = {row: (float(line["c1"]), float(line["c2"])) for row, line in published("sawb_coeff").values.items()}
SAMPLES, FITS = 10_000, 12


def test_the_table(check_table):
    cells = check_table("sawb", reproduced=0, of=18)
    for (row, _), cell in cells.items():
        assert cell.value == pytest.approx(float(cell.printed), rel=0.0025 if row == "2 bits" else 0.06)


def test_the_quantizer_has_the_published_numbers():
    assert {f"{bits} bits": pair for bits, pair in COEFFICIENTS.items()} == {
        row: pair for row, pair in PRINTED.items() if row.endswith("bits")
    }


@pytest.mark.parametrize("row", COUNTS)
def test_no_line_is_nearer_to_the_best_clips(row):
    ratios, clips = np.transpose([point(density, COUNTS[row]) for density in distributions()])
    c1, c2 = line(distributions(), COUNTS[row])
    residual = c1 * ratios + c2 - clips
    np.testing.assert_allclose([np.sum(residual), np.sum(residual * ratios)], 0, atol=1e-10)
    his = PRINTED[row][0] * ratios + PRINTED[row][1] - clips
    assert np.sum(residual**2) < np.sum(his**2)


@pytest.mark.parametrize("row", ["2 bits", "4 bits"])
def test_the_clips_are_the_best(row):
    """And the clip of either line costs little: what the line is for."""
    units = unit_levels(COUNTS[row])
    for density in distributions():
        ratio, clip = point(density, COUNTS[row])

        def cost(clip, density=density):
            return error(density, clip * density.mean_magnitude / units[-1] * units)

        assert cost(clip) < min(cost(0.999 * clip), cost(1.001 * clip))
        for c1, c2 in (line(distributions(), COUNTS[row]), PRINTED[row]):
            assert cost(c1 * ratio + c2) < (1.03 if row == "2 bits" else 1.3) * cost(clip)


def sampled_point(x, count):
    magnitude = np.abs(x)
    mean = magnitude.mean()

    def cost(clip):
        step = 2 * clip / (count - 1)
        offset = step / 2 if count % 2 == 0 else 0.0
        return np.mean((magnitude - np.minimum(np.rint((magnitude - offset) / step) * step + offset, clip)) ** 2)

    clips = mean * np.geomspace(0.8, 12, 45)
    at = int(np.argmin([cost(clip) for clip in clips]))
    around = (clips[max(at - 1, 0)], clips[min(at + 1, 44)])
    best = optimize.minimize_scalar(cost, bounds=around, method="bounded", options={"xatol": 1e-3 * mean}).x
    return np.sqrt(np.mean(x**2)) / mean, best / mean


def sampled_line(rng, count):
    samples = (
        rng.normal(size=SAMPLES),
        rng.uniform(-1, 1, SAMPLES),
        rng.laplace(size=SAMPLES),
        rng.logistic(size=SAMPLES),
        rng.triangular(-1, 0, 1, SAMPLES),
        rng.vonmises(0, 4.0, SAMPLES),
    )
    return np.polyfit(*np.transpose([sampled_point(x, count) for x in samples]), 1)


def test_the_published_line_is_one_of_samples():
    """All 18 numbers lie within two and a half standard deviations of what fits to 10,000 values give, most within
    one and a half.
    """
    rng, distances = np.random.default_rng(0), []
    for row, count in COUNTS.items():
        lines = np.array([sampled_line(rng, count) for _ in range(FITS)])
        mean, deviation = lines.mean(axis=0), lines.std(axis=0, ddof=1)
        distances.append(np.abs(PRINTED[row] - mean) / deviation)
        assert np.all(np.abs(line(distributions(), count) - mean) < 0.12 * np.abs(mean))
    assert np.max(distances) < 2.5 and np.mean(np.array(distances) < 1.5) > 0.7


def test_the_concentration_matters_little():
    c1, c2 = np.transpose([line(distributions(k), 4) for k in (1.0, 2.0, 4.0, 6.0, 10.0)])
    assert np.all((c1 > 3.11) & (c1 < 3.18)) and np.all((c2 > -2.13) & (c2 < -2.045))
