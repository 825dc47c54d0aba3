"""The numbers of the page in a real browser, against those of the records and of `statistics`."""

import itertools

import numpy as np
import pytest

from picked_records import finished, values
from qresearch.reports import statistics
from qresearch.reports.differing import differing_keys

METHODS, BITS = ("ptq", "qat"), (8, 4, 3, 2)
LAYERS = ("conv1", "conv2", "linear")


def test_means_and_intervals_of_settings(seen, report):
    assert seen.page.locator("#mode-settings").get_attribute("aria-pressed") == "true"
    for method, bits in itertools.product(METHODS, BITS):
        records = finished(report[1], method=method, bits=bits)
        row = seen.page.locator(f'tr[data-path="{records[0]["path"]}"]')
        expected = statistics.shown(statistics.mean_interval(values(records)), 2)
        assert row.locator('[data-column="metric:top1"]').inner_text() == expected
        lost = [record["metrics"]["top1"] - record["metrics"]["top1_float"] for record in records]
        expected = statistics.shown(statistics.mean_interval(lost), 2).replace("-", "−")
        assert row.locator('[data-column="metric:top1_lost"]').inner_text() == expected
        seeds = "3 of 4 seeds, 1 diverged" if (method, bits) == ("qat", 2) else "3 seeds"
        assert seeds in row.inner_text()


def test_the_columns_are_the_keys_that_differ(seen, report):
    configs = [record["config"] for record in report[1] if record["status"] != "failed"]
    seen.page.click("#mode-runs")
    heads = seen.texts("#table-head .text button")
    assert [name for name in heads if name not in ("run", "status")] == ["method", "weight.bits", "seed"]
    assert differing_keys(configs) == ["method.name", "weight.bits", "seed"]


def test_lines_and_intervals_of_the_accuracy_plot(seen, report):
    seen.draw("plot-accuracy")
    traces = seen.ask("document.querySelector('#plot-accuracy').data.filter((trace) => trace.error_y)")
    assert [trace["name"] for trace in traces] == list(METHODS)
    assert len({(trace["marker"]["symbol"], trace["line"]["dash"], trace["line"]["color"]) for trace in traces}) == 2
    for method, trace in zip(METHODS, traces, strict=True):
        found = [
            statistics.mean_interval(values(finished(report[1], method=method, bits=bits))) for bits in sorted(BITS)
        ]
        np.testing.assert_allclose(trace["y"], [interval.mean for interval in found], rtol=1e-5)
        np.testing.assert_allclose(trace["error_y"]["array"], [interval.half or 0 for interval in found], rtol=1e-3)
    (floats,) = seen.ask(
        "document.querySelector('#plot-accuracy').data.filter((trace) => trace.line?.dash === 'dot' && !trace.error_y)"
    )
    np.testing.assert_allclose(floats["y"], [96.6, 96.6])


def test_the_heat_map_and_the_split(seen, report):
    seen.draw("plot-heat", "plot-split")
    heat = seen.ask("(({z, customdata}) => ({z, customdata}))(document.querySelector('#plot-heat').data[0])")
    order = [(method, bits) for method in METHODS for bits in BITS]
    for column, (method, bits) in enumerate(order):
        records = finished(report[1], method=method, bits=bits)
        for row, layer in enumerate(LAYERS):
            mean = np.mean([record["layers"][layer]["weight"]["sqnr_db"] for record in records])
            assert heat["z"][row][column] == pytest.approx(mean, abs=0.006)
    clipping = seen.ask("document.querySelector('#plot-split').data[0].x")
    records = finished(report[1], method="ptq", bits=2)  # A, which the page chooses
    shares = [
        np.mean(
            [
                (t := record["layers"][layer]["input"])["mse_clip"] / (t["mse_clip"] + t["mse_round"])
                for record in records
            ]
        )
        for layer in LAYERS
    ]
    np.testing.assert_allclose(clipping, [100 * share for share in shares], atol=0.21)


def test_picked_settings_are_compared_seed_by_seed(seen, report):
    a, b = (finished(report[1], method=method, bits=4) for method in METHODS)
    for records in (a, b):
        seen.page.get_by_role("checkbox", name=f"Pick {records[0]['config']['method.name']}, weight.bits 4").check()
    expected = statistics.paired_difference(values(b), values(a), digits=2)
    verdict = seen.page.locator(".verdict").inner_text()
    assert verdict.startswith(f"Top-1, B against A: {expected.words}.")
    row = seen.page.locator(".compare tr:visible", has_text="top-1 %").inner_text().split("\t")
    difference = statistics.shown(statistics.Interval(expected.mean, expected.half, 3), 2)
    assert [text.strip() for text in row[:4]] == [
        "top-1 %",
        *(statistics.shown(statistics.mean_interval(values(records)), 2) for records in (a, b)),
        difference.replace("-", "−"),
    ]
    seen.draw("plot-difference")
    layers = seen.ask("document.querySelector('#plot-difference').data[0].x")
    for layer, found in zip(LAYERS, layers, strict=True):
        pairs = [
            y["layers"][layer]["weight"]["sqnr_db"] - x["layers"][layer]["weight"]["sqnr_db"]
            for x, y in zip(a, b, strict=True)
        ]
        assert found == pytest.approx(np.mean(pairs), abs=0.011)


def test_single_runs_are_compared_number_by_number(seen, report):
    seen.page.click("#mode-runs")
    runs = [finished(report[1], method="ptq", bits=8, seed=0)[0], finished(report[1], method="qat", bits=8, seed=1)[0]]
    for record in runs:
        seen.page.locator(f'tr[data-path="{record["path"]}"] input').check()
    assert "No pair" in seen.page.locator(".verdict").inner_text()
    row = seen.page.locator(".compare tr:visible", has_text="top-1 %").inner_text().split("\t")
    assert [text.strip() for text in row] == ["top-1 %", *(f"{value:.2f}" for value in values(runs))]


def test_curves_are_means_of_seeds_in_bands_of_their_range(seen):
    seen.draw("plot-training", "plot-scales")
    traces = seen.ask("document.querySelector('#plot-training').data.map(({x, y, name}) => ({x, y, name}))")
    steps = np.arange(1, 31)
    low, high, line = traces[:3]
    assert line["x"] == list(steps)
    np.testing.assert_allclose(low["y"], 2 / steps, rtol=1e-4)
    np.testing.assert_allclose(line["y"], 2 / steps + 0.1, rtol=1e-4)
    np.testing.assert_allclose(high["y"], 2 / steps + 0.2, rtol=1e-4)
    scales = seen.ask("document.querySelector('#plot-scales').data.at(-1)")
    assert scales["name"] == "conv1"
    np.testing.assert_allclose(scales["y"], (0.1 + steps) / 1.1, rtol=1e-4)
    seen.page.select_option("#training-stage", "baseline")
    assert len(seen.ask("document.querySelector('#plot-training').data[2].x")) == 5


def test_the_statistics_of_the_page_are_those_of_the_tables(seen):
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 5, 10, 31, 100, 1001):
        sample, other = rng.normal(size=(2, n)).round(6).tolist()
        expected = statistics.mean_interval(sample)
        found = seen.ask("(sample) => meanInterval(sample)", sample)
        assert found == {"mean": pytest.approx(expected.mean), "half": pytest.approx(expected.half), "n": n}
        for first, second in ((sample, other), (sample, sample), (sample, [x + 1 for x in sample]), ([9.0], [7.5])):
            paired = statistics.paired_difference(first, second, digits=2)
            found = seen.ask("([a, b]) => pairedDifference(a, b, {digits: 2})", [first, second])
            assert found["words"] == paired.words
            assert (found["p"] is None) == (paired.p is None)
            assert paired.p is None or found["p"] == pytest.approx(paired.p, abs=1e-9)
    for top1, images in ((0.0, 10), (100.0, 297), (91.73, 10_000), (50.0, 2)):
        found = seen.ask("([top1, images]) => accuracyInterval(top1, images)", [top1, images])
        assert found == pytest.approx(statistics.accuracy_interval(top1, images), abs=1e-9)
