"""Accuracy against cost in a real browser: the points, their Pareto fronts, the choices, and what was not measured."""

import itertools

import numpy as np
import pytest

from picked_records import finished, values
from qresearch.reports import statistics
from qresearch.reports.report_command import write_report

METHODS, BITS = ("ptq", "qat"), (8, 4, 3, 2)
FLOATS = [96.5, 96.6, 96.7]  # of the seeds
PLOTS = ("plot-size", "plot-latency", "plot-energy", "plot-bitops")


def slow_front(points):
    """By every pair: those that no other is at least as good as in both and not the same; once each, by cost."""
    best = [p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)]
    return sorted(set(best))


def data_of(seen, plot):
    """The front and the points of a plot, [[cost, top-1], ...], the float networks last."""
    seen.draw(plot)
    traces = seen.ask("(id) => document.getElementById(id).data.map(({x, y, name}) => ({x, y, name}))", plot)
    front, *points = [list(zip(trace["x"], trace["y"], strict=True)) for trace in traces]
    return front, list(itertools.chain(*points)), traces


def means(records, cost):
    """[cost, top-1] of every setting that has both."""
    found = []
    for method, bits in itertools.product(METHODS, BITS):
        runs = finished(records, method=method, bits=bits)
        costs = [cost(run["metrics"]) for run in runs]
        if None not in costs:
            found.append((np.mean(costs), np.mean(values(runs))))
    return found


def check(seen, plot, expected):
    front, points, traces = data_of(seen, plot)
    np.testing.assert_allclose(sorted(points), sorted(expected), rtol=1e-5)
    np.testing.assert_allclose(front, slow_front(expected), rtol=1e-5)
    assert traces[0]["name"] == "Pareto front"
    assert seen.ask(f"document.getElementById('{plot}').data[0].line.shape") == "hv"


def choose(seen, kind, cost):
    """Of the costs of a kind: its select has them once the plot was in sight."""
    seen.draw(f"plot-{kind}")
    seen.page.select_option(f"#cost-{kind}", cost)


def axis(seen, plot):
    return seen.ask("(id) => document.getElementById(id).layout.xaxis.title.text", plot)


def test_bytes_computed_and_of_files(seen, report):
    points = means(report[1], lambda metrics: metrics["size_bytes"] / 1e3)
    check(seen, "plot-size", [*points, (16.0, np.mean(FLOATS))])
    assert seen.texts("#cost-size option") == ["computed", "file for ONNX Runtime", "file for LiteRT"]
    choose(seen, "size", "litert_bytes")
    check(seen, "plot-size", means(report[1], lambda metrics: metrics["litert_bytes"] / 1e3))
    assert axis(seen, "plot-size") == "LiteRT file kB"
    assert "Not among them: the float networks" in seen.texts("#note-size")[0]


def test_latency_of_each_runtime_that_measured(seen, report):
    assert seen.texts("#cost-latency option") == ["ONNX Runtime", "LiteRT"]
    check(seen, "plot-latency", [*means(report[1], lambda m: m.get("onnx_latency_ms")), (0.1, np.mean(FLOATS))])
    (note,) = seen.texts("#note-latency")
    assert "of 2 settings and 1 float network. Measured: 2 of 8 settings; `qresearch deploy RUNS` measures" in note
    choose(seen, "latency", "litert_latency_ms")
    latency = np.mean([run["metrics"]["litert_latency_ms"] for run in finished(report[1])]) / 0.25
    points = means(report[1], lambda metrics: metrics["litert_latency_ms"])
    check(seen, "plot-latency", [*points, (latency, np.mean(FLOATS))])


def test_a_point_says_what_it_is(seen, report):
    choose(seen, "latency", "litert_latency_ms")
    seen.draw("plot-latency")
    texts = seen.ask("document.querySelector('#plot-latency').data.flatMap((trace) => trace.text ?? [])")
    runs = finished(report[1], method="ptq", bits=4)
    assert [
        "ptq, weight.bits 4",
        f"top-1 %: {statistics.shown(statistics.mean_interval(values(runs)), 2)}",
        "LiteRT top-1 %: 86.00",
        "3 seeds",
    ] == [line for line in texts[1].split("<br>") if "latency" not in line]
    assert "LiteRT latency ms: 0.02" in texts[1]
    assert texts[-1].startswith("float network<br>top-1 %: 96.60 ± 0.25<br>LiteRT latency ms: 0.1")


def test_energy_is_called_an_estimate(seen, report):
    parts = {"arithmetic": lambda bits: 0.002 * bits**2, "memory": lambda bits: 0.3 * bits}
    both = sorted(sum(part(bits) for part in parts.values()) for bits in BITS for _ in METHODS)
    _, points, _ = data_of(seen, "plot-energy")
    np.testing.assert_allclose(sorted(cost for cost, _ in points), both)
    for name, part in parts.items():
        choose(seen, "energy", f"energy_{name}_uj_estimate")
        check(seen, "plot-energy", means(report[1], lambda metrics, name=name: metrics[f"energy_{name}_uj_estimate"]))
        assert max(cost for cost, _ in data_of(seen, "plot-energy")[1]) == pytest.approx(part(8))
        assert axis(seen, "plot-energy").endswith("µJ<br>estimate (45 nm table of Horowitz 2014)")


def test_a_filter_changes_the_front(seen, report):
    seen.ask("change({filters: {'config:weight.bits': {values: [3, 2]}}})")
    points = [point for point in means(report[1], lambda metrics: metrics["size_bytes"] / 1e3) if point[0] < 1.9]
    assert len(points) == 4
    check(seen, "plot-size", [*points, (16.0, np.mean(FLOATS))])
    seen.draw("plot-latency")
    words = "No run that is shown was measured in ONNX Runtime: the command `qresearch deploy RUNS` does that."
    assert seen.texts("#plot-latency") == [words] and seen.texts("#note-latency") == [""]


def test_the_front_against_every_pair(seen):
    rng = np.random.default_rng(0)
    for n, levels in ((1, 5), (2, 2), (40, 6), (300, 1000)):  # few levels: ties, and points on points
        points = [tuple(point) for point in rng.integers(0, levels, (n, 2)).tolist()]
        asked = [{"cost": cost, "gain": gain} for cost, gain in points]
        found = seen.ask("(points) => paretoFront(points).map(({cost, gain}) => [cost, gain])", asked)
        assert [tuple(point) for point in found] == slow_front(points)
    assert seen.ask("paretoFront([])") == []


def test_an_axis_has_ticks_however_narrow_its_range(seen):
    for low, high in ((0.0128, 0.0154), (2.1, 3.1), (1, 4.99), (3, 15), (7, 5e5), (0.25, 0.35), (1000, 1001)):
        ticks = seen.ask("(values) => logTicks(values).tickvals", [low, high])
        inside = [tick for tick in ticks if low <= tick <= high]
        assert 2 <= len(inside) <= 8 and ticks == sorted(ticks)
    assert seen.ask("logTicks([3, 3])") == {"tickmode": "array", "tickvals": [3], "ticktext": ["3"]}


@pytest.fixture(scope="module")
def plain(open_page, write_cell, tmp_path_factory):
    """A page of quantized cells, their float network as a cell of its own, and none measured at first."""
    folder = tmp_path_factory.mktemp("plain") / "sweep"
    figures = {"top1_float": 97.0, "size_bytes_float": 16000, "macs": 1000, "test_images": 297}
    for bits, name in ((8, "ptq"), (4, "ptq"), (2, "ptq"), (32, "float")):
        size = 500 * bits if name == "ptq" else 16000
        metrics = figures | {"top1": 97.0 if name == "float" else 88.0 + bits, "size_bytes": size}
        metrics |= {"bitops": 1000 * bits * bits, "energy_memory_uj_estimate": 0.1 * bits}
        config = {"method": {"name": name}, "weight": {"bits": bits}, "seed": 0}
        write_cell(folder, f"{bits:02}", "ptq", 8, 0, config=config, metrics=metrics)
        for device in ("cpu", "NVIDIA H100") if name == "ptq" else ():
            measured = metrics | {"jax_latency_ms": 0.1 * bits, "jax_latency_ratio": 2.0}
            environment = {"device": device, "git_commit": None, "git_dirty": None, "versions": {}}
            changes = {"config": config | {"model": device}, "metrics": measured, "environment": environment}
            write_cell(folder.parent / "machines", f"{device} {bits}", "ptq", 8, 0, **changes)
    write_report(folder, folder / "report.html")
    return open_page((folder / "report.html").as_uri()), folder.parent / "machines"


def test_what_nobody_measured_names_the_command(plain):
    seen, _ = plain
    seen.draw(*PLOTS)
    assert seen.texts("#plot-latency") == [
        "No run that is shown was measured: the command `qresearch deploy RUNS` does that."
    ]
    for kind in ("size", "latency", "energy"):
        assert not seen.page.locator(f"#cost-{kind}").is_visible()  # nothing to choose
    assert seen.complaints == []


def test_a_float_network_that_was_run_is_drawn_once(plain):
    seen, _ = plain
    for plot, cost in (("plot-size", 16.0), ("plot-bitops", 1.024)):
        _, points, traces = data_of(seen, plot)
        assert [point for point in points if point[1] == 97.0] == [(cost, 97.0)] and len(points) == 4
        assert "float" not in [trace["name"] for trace in traces]
    seen.ask("change({filters: {'config:method.name': {values: ['ptq']}}})")
    for plot, cost in (("plot-size", 16.0), ("plot-bitops", 1.024)):
        _, points, traces = data_of(seen, plot)
        assert points[-1] == (cost, 97.0) and len(points) == 4 and traces[-1]["name"] == "float"
    seen.ask("change({filters: {}})")


def test_runs_of_several_devices_are_told_of(plain, open_page):
    folder = plain[1]
    write_report(folder, folder / "report.html")
    seen = open_page((folder / "report.html").as_uri())
    seen.draw("plot-latency")
    told = "These runs are of different devices: NVIDIA H100, cpu."
    assert told in seen.texts("#note-latency")[0] and "machine and threads" in seen.texts("#note-latency")[0]
    seen.ask("change({filters: {'config:model': {values: ['cpu']}}})")
    seen.draw("plot-latency")
    (note,) = seen.texts("#note-latency")
    assert "devices" not in note and "machine and threads" in note
    assert seen.complaints == []
    seen.page.close()
