"""The last line of a run but one, in words."""

import scipy.stats

from qresearch.run import metrics_line


def test_the_headline_in_words():
    metrics = {
        "top1": 12.345,
        "top1_float": 50,
        "test_images": 297,
        "size_bytes": 250,
        "size_bytes_float": 1000,
        "programs": 2,
        "seconds": 3.04,
    }
    low, high = (100 * bound for bound in scipy.stats.binomtest(37, 297).proportion_ci(0.95, "wilson"))
    interval = f"95 % interval {low:.1f} to {high:.1f} % by 297 images"
    assert metrics_line(metrics) == (
        f"top-1 12.35 % ({interval}; float 50.00 %), 0.2 kB (0.250 of float), 2 programs compiled, 3.0 s"
    )
    assert metrics_line({"top1_float": 50, "programs": 2, "seconds": 3.04}) == "2 programs compiled, 3.0 s"
