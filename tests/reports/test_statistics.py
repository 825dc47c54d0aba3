"""Intervals and tests against printed tables of t, formulas written out, and Student's own example."""

import math

import numpy as np
import pytest
from scipy import stats

from qresearch.reports.statistics import (
    Interval,
    accuracy_interval,
    binomial_interval,
    mean_interval,
    paired_difference,
    shown,
)

# Hours of sleep gained by ten patients with each of two drugs (Student 1908, p. 20): mean difference 1.58, t = 4.0621.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (31, 2.042)])
def test_half_width_is_that_of_the_printed_tables_of_t(n, t):
    values = [(-1) ** i for i in range(n)]
    mean = sum(values) / n
    s = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    found = mean_interval(values)
    assert (found.mean, found.n) == (pytest.approx(mean), n)
    assert found.half == pytest.approx(t * s / math.sqrt(n), rel=2e-4)


def test_confidence_is_an_argument():
    # t(2) has a distribution function that can be written out: 1/2 + t / (2 sqrt(2 + t^2)).
    half = mean_interval([1.0, 2.0, 3.0], confidence=0.5).half
    assert half is not None
    t = half * math.sqrt(3)
    assert t / math.sqrt(2 + t**2) == pytest.approx(0.5)


def test_one_value_has_no_interval():
    assert mean_interval([91.73]) == Interval(91.73, None, 1)
    assert mean_interval([5, 5, 5]) == Interval(5.0, 0.0, 3)


def test_mean_of_three_holds_its_expectation_95_times_in_100():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (2000, 3))
    held = [abs(found.mean - 3) <= (found.half or 0) for found in map(mean_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)  # three standard deviations of 2000 trials


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "No values have no mean"), ([1.0, math.nan], "nan among 2 values"), ([math.inf], "inf among 1 values")],
)
def test_what_has_no_mean_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


def test_students_example():
    found = paired_difference(SECOND, FIRST, unit="hours", digits=2)
    assert found.mean == pytest.approx(1.58)
    assert found.half == pytest.approx(2.262 * 1.58 / 4.0621, rel=1e-3)
    assert found.p == pytest.approx(0.00283, abs=5e-6)
    assert found.words == "better by 1.58 ± 0.88 hours (p = 0.0028, 10 pairs)"


def test_p_of_three_pairs_is_the_formula_for_two_degrees_of_freedom():
    a, b = [92.0, 93.5, 94.0], [91.5, 92.0, 93.8]
    d = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(d) / 3
    t = mean / math.sqrt(sum((x - mean) ** 2 for x in d) / 2 / 3)
    found = paired_difference(a, b)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert found.words == "not significant (p = 0.2, 3 pairs)"


def test_words_follow_the_sign_and_what_is_better():
    a, b = [95.0, 96.1, 95.5], [85.0, 86.0, 85.4]
    assert paired_difference(a, b).words == "better by 10.1 ± 0.1 points (p < 0.001, 3 pairs)"
    assert paired_difference(b, a).words == "worse by 10.1 ± 0.1 points (p < 0.001, 3 pairs)"
    lower = paired_difference(b, a, unit="kB", higher_is_better=False, digits=2)
    assert lower.words == "better by 10.07 ± 0.14 kB (p < 0.001, 3 pairs)"
    assert lower.mean == pytest.approx(-10.0667, abs=1e-4)  # a - b, whatever is better


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([91.0], [90.0], "better by 1.0 points (1 pair: no test)"),
        ([90.0], [90.0], "no difference (1 pair)"),
        ([91.0, 92.0], [91.0, 92.0], "no difference (2 pairs)"),
        (
            [91.2, 92.2, 93.2],
            [90, 91, 92],
            "better by 1.2 points in each of 3 pairs: no test",
        ),  # equal but for rounding
        ([0.1 + 0.2, 0.1 + 0.2], [0.3, 0.3], "no difference (2 pairs)"),
    ],
)
def test_without_a_spread_there_is_no_test(a, b, words):
    found = paired_difference(a, b)
    assert found.p is None and found.words == words and found.n == len(a)


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0]), ([], []), ([1.0, math.nan], [1.0, 2.0])])
def test_what_makes_no_pairs_is_refused(a, b):
    with pytest.raises(ValueError):
        paired_difference(a, b)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (8, 10), (290, 297), (9173, 10000), (7, 7)])
def test_wilson_is_that_of_scipy(right, n):
    for confidence in (0.95, 0.5):
        found = stats.binomtest(right, n).proportion_ci(confidence_level=confidence, method="wilson")
        assert binomial_interval(right, n, confidence) == pytest.approx((found.low, found.high), abs=1e-12)


def test_wilson_by_hand():
    # 8 of 10, z^2 = 3.8415: the middle is (0.8 + 0.19207) / 1.38415, half of it 1.96 sqrt(0.016 + 0.0096) / 1.38415
    assert binomial_interval(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_p_and_intervals_are_those_of_scipy():
    rng = np.random.default_rng(1)
    for n in (2, 3, 10, 40):
        a, b = rng.normal(90, 3, n), rng.normal(91, 2, n)
        found, other = paired_difference(list(a), list(b)), stats.ttest_rel(a, b)
        interval = other.confidence_interval(0.95)
        assert found.p == pytest.approx(other.pvalue, rel=1e-10)
        assert found.half == pytest.approx((interval.high - interval.low) / 2)


def test_accuracy_of_a_single_run():
    low, high = accuracy_interval(91.73, 10_000)
    assert (low, high) == pytest.approx([100 * share for share in binomial_interval(9173, 10_000)])
    assert (round(low, 2), round(high, 2)) == (91.17, 92.25)


@pytest.mark.parametrize(("right", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_what_is_no_count_is_refused(right, n):
    with pytest.raises(ValueError, match=f"right={right} of n={n} is no count"):
        binomial_interval(right, n)


def test_shown():
    assert shown(Interval(95.44, 0.62, 3), 1) == "95.4 ± 0.6"
    assert shown(Interval(95.44, None, 1), 2) == "95.44"
