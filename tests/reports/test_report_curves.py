"""Curves for the page: thinned evenly, of few runs, the most telling first, and none of them a reason to fail."""

import json

import numpy as np
import pytest

from qresearch.reports.report_curves import POINTS, curves_of_some, read_curves, thinned


def curve(length, value=0.123456789):
    return [{"step": step, "loss": value + step} for step in range(length)]


def record(name, status="finished", **config):
    return {"path": f"{name}/result.json", "status": status, "config": {"method.name": "qat", "seed": 0} | config}


def write(folder, name, stages):
    (folder / name).mkdir()
    (folder / name / "curves.json").write_text(stages if isinstance(stages, str) else json.dumps(stages))


@pytest.mark.parametrize("length", [1, 2, POINTS - 1, POINTS, POINTS + 1, 10 * POINTS])
def test_points_are_few_even_and_keep_both_ends(length):
    found = thinned(curve(length))
    steps = found["step"]
    assert len(steps) == min(length, POINTS) and (steps[0], steps[-1]) == (0, length - 1)
    gaps = np.diff(steps)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    assert found["loss"] == [float(f"{0.123456789 + step:.5g}") for step in steps]


def test_what_is_no_number_of_json_is_a_gap():
    assert thinned([{"step": 1, "loss": float("inf")}, {"step": 2, "loss": 0.5}])["loss"] == [None, 0.5]


def test_a_quantity_that_comes_later_has_gaps():
    found = thinned([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "accuracy": 0.5}])
    assert found == {"step": [1, 2], "loss": [2, 1], "accuracy": [None, 0.5]}


def test_stages_without_points_are_left_out(tmp_path):
    write(tmp_path, "a", {"baseline": [], "qat": curve(3)})
    assert list(read_curves(tmp_path / "a" / "result.json")) == ["qat"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"qat": 3}',
        '{"qat": [1, 2]}',
        "\xff",
        '{"qat": [{"step": 1' + "0" * 400 + "}]}",
        '{"qat": [{"step": "x"}]}',
    ],
)
def test_curves_that_cannot_be_read_are_none(text, tmp_path):
    write(tmp_path, "a", text)
    assert read_curves(tmp_path / "a" / "result.json") == {}
    assert read_curves(tmp_path / "nowhere" / "result.json") == {}


def test_a_baseline_that_runs_share_is_kept_once(tmp_path):
    for seed in range(3):
        write(tmp_path, str(seed), {"baseline": curve(5), "qat": curve(5, value=seed)})
    found = curves_of_some(tmp_path, [record(str(seed), seed=seed) for seed in range(3)])
    assert len(found["series"]) == 4
    assert [stages["baseline"] for stages in found["runs"].values()] == [0, 0, 0]
    last = found["series"][found["runs"]["2/result.json"]["qat"]]
    assert last == thinned(curve(5, value=2))


def test_diverged_settings_come_first_then_trained_ones_then_others(tmp_path):
    records = [
        record("ptq", **{"method.name": "ptq"}),
        record("qat", rate=1),
        record("seed0", rate=2),
        record("seed1", status="diverged", rate=2, seed=1),
        record("lost", status="failed", rate=3),
    ]
    for entry in records:
        write(tmp_path, entry["path"].split("/")[0], {"baseline": curve(3)})
    order = [path.split("/")[0] for path in curves_of_some(tmp_path, records)["runs"]]
    assert order == ["seed0", "seed1", "qat", "ptq"]
    assert list(curves_of_some(tmp_path, records, limit=1)["runs"]) == ["seed0/result.json"]


def test_those_that_are_kept_spread_over_the_folder(tmp_path):
    records = [record(f"{rate:03}", rate=rate) for rate in range(64)]
    for entry in records:
        write(tmp_path, entry["path"].split("/")[0], {"qat": curve(2)})
    kept = sorted(int(path.split("/")[0]) for path in curves_of_some(tmp_path, records, limit=8)["runs"])
    assert kept == list(range(0, 64, 8))


def test_runs_without_curves_take_no_place(tmp_path):
    write(tmp_path, "b", {"qat": curve(2)})
    found = curves_of_some(tmp_path, [record("a", rate=1), record("b", rate=2)], limit=1)
    assert list(found["runs"]) == ["b/result.json"]
