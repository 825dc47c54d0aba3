"""What repeated runs say: means with 95 % intervals, paired differences, and the accuracy of a single run.

    mean of n values:     x +- t(n - 1) s / sqrt(n)             Student's t, s with n - 1 degrees of freedom
    paired difference:    the same of d = a - b, and the two-sided p of the paired t test
    one run's accuracy:   Wilson's interval of a share of n test images

Student, "The probable error of a mean", Biometrika 6(1), 1908. Wilson, "Probable inference, the law of succession, and
statistical inference", Journal of the American Statistical Association 22(158), 1927.

The interval of a mean is over seeds: it holds what another seed would change, on the same test images. The interval of
a single run is over test images: it holds what other images of the same kind would change, with the same network.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special  # scipy.stats has the same and takes a second to import

CONFIDENCE = 0.95
NO_SPREAD = 1e-9  # of the largest value: differences that vary by less do so by rounding


class Interval(NamedTuple):
    """A mean and the half width of its confidence interval; a single value has none."""

    mean: float
    half: float | None
    n: int


class Paired(NamedTuple):
    """The mean of a - b with its interval, the p of the paired t test (None where there is no test), and both in
    words."""

    mean: float
    half: float | None
    n: int
    p: float | None
    words: str


def mean_interval(values: Iterable[float | int], confidence: float = CONFIDENCE) -> Interval:
    """The mean and the half width of Student's interval.

    Raises ValueError for no values, and for NaN or infinities.
    """
    x = _finite(values)
    if len(x) < 2:
        return Interval(float(x[0]), None, 1)
    t = special.stdtrit(len(x) - 1, (1 + confidence) / 2)
    return Interval(float(x.mean()), float(t * x.std(ddof=1) / math.sqrt(len(x))), len(x))


def paired_difference(
    a: Sequence[float | int],
    b: Sequence[float | int],
    *,
    unit: str = "points",
    higher_is_better: bool = True,
    digits: int = 1,
) -> Paired:
    """How much better a is than b, where the values of one position share a seed and a float baseline.

    The test is the paired t test at 5 %. It needs a spread: one pair has none, and neither have differences that are
    all the same, so p is None for both and the words say why. No difference at all is said as such.
    Raises ValueError for sequences of two lengths, for empty ones, and for NaN or infinities.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values and {len(b)} make no pairs; give one of each for every seed.")
    first, second = _finite(a), _finite(b)
    difference = mean_interval(first - second)
    rounding = NO_SPREAD * float(np.abs([first, second]).max())
    tested = float(np.ptp(first - second)) > rounding
    p = _paired_test(first - second) if tested else None
    better = 0.0 if abs(difference.mean) <= rounding else difference.mean if higher_is_better else -difference.mean
    amount = f"{shown(Interval(abs(better), difference.half if tested else None, difference.n), digits)} {unit}"
    return Paired(*difference, p, _words(better, amount, p, difference.n))


def binomial_interval(right: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval for the share that `right` of `n` trials estimate, from 0 to 1.

    Raises ValueError for counts that are none.
    """
    if not (0 <= right <= n and n > 0):
        raise ValueError(f"right={right} of n={n} is no count; 0 <= right <= n and n >= 1.")
    z, share = special.ndtri((1 + confidence) / 2), right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def accuracy_interval(top1: float | int, test_images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval in percent for a top-1 accuracy in percent, found on `test_images` images."""
    low, high = binomial_interval(round(top1 / 100 * test_images), test_images, confidence)
    return 100 * low, 100 * high


def shown(interval: Interval, digits: int) -> str:
    """`95.4 ± 0.6`; the mean alone where there is no interval."""
    half = "" if interval.half is None else f" ± {interval.half:.{digits}f}"
    return f"{interval.mean:.{digits}f}{half}"


def _paired_test(differences: np.ndarray) -> float:
    """The two-sided p of Student's t for differences of mean zero."""
    n = len(differences)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(n))
    return float(2 * special.stdtr(n - 1, -abs(t)))


def _words(better: float, amount: str, p: float | None, n: int) -> str:
    pairs = f"{n} pair{'s' if n > 1 else ''}"
    side = "better" if better > 0 else "worse"
    if p is None and better == 0:
        return f"no difference ({pairs})"
    if p is None:
        return f"{side} by {amount} ({pairs}: no test)" if n == 1 else f"{side} by {amount} in each of {pairs}: no test"
    test = f"(p {_p(p)}, {pairs})"
    return f"{side} by {amount} {test}" if p < 1 - CONFIDENCE else f"not significant {test}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _finite(values: Iterable[float | int]) -> np.ndarray:
    x = np.asarray(list(values), float)
    if len(x) == 0:
        raise ValueError("No values have no mean; give at least one.")
    if not np.isfinite(x).all():
        raise ValueError(f"{x[~np.isfinite(x)][0]} among {len(x)} values has no mean; leave out runs that diverged.")
    return x
