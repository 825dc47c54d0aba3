"""The demo's table and picture, from records that nobody had to compute."""

import io

import matplotlib.image
import pytest
from rich.console import Console

from qresearch.reports.demo import Point, demo_table, show_demo
from qresearch.reports.sweep_display import SweepDisplay

STUDENT = 12.706205  # 97.5 % of one degree of freedom


def metrics(top1, sqnr=20.0):
    return {"top1": top1, "top1_float": 97.5, "sqnr_weight_db_min": sqnr}


def printed(table):
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return text.getvalue().splitlines()


def test_table_has_a_row_for_each_method_and_granularity_and_a_column_for_each_width():
    cells = {
        Point("ptq", "tensor", 4): [metrics(80.0), metrics(84.0)],
        Point("ptq", "tensor", 8): [metrics(97.0), metrics(97.0)],
        Point("qat", "channel", 4): [metrics(96.5)],
    }
    *title, head, first, second = printed(demo_table(cells))
    assert "95 % interval over seeds" in title[0]
    assert head.split() == ["method", "scale", "per", "8", "bits", "4", "bits"]
    assert [row.split() for row in (first, second)] == [
        ["PTQ", "tensor", "97.0", "±", "0.0", "82.0", "±", f"{STUDENT * 8**0.5 / 2**0.5:.1f}"],  # mean 82: -2 and 2
        ["QAT", "channel", "-", "96.5"],
    ]


@pytest.fixture
def records():
    """A sweep of 2 methods x 2 granularities x 2 widths x 2 seeds; its last cell diverged."""
    found = []
    for method, drop in (("ptq", 40), ("qat", 2)):
        for granularity in ("tensor", "channel"):
            for bits in (8, 2):
                for seed in (0, 1):
                    top1 = 97.0 - drop * (bits == 2) + seed
                    weight = {"granularity": granularity, "bits": bits}
                    config = {"method": {"name": method}, "weight": weight, "seed": seed}
                    found.append({"status": "finished", "config": config, "metrics": metrics(top1, 6.0 * bits)})
    return [*found[:-1], found[-1] | {"status": "diverged", "metrics": {"seconds": 1.0}}]


def test_show_demo_prints_the_tables_and_draws_the_picture(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(SweepDisplay, "totals", "sweep: 16 cells")
    show_demo(tmp_path, records)
    out = capsys.readouterr().out
    lines = out.splitlines()
    words = [line.split() for line in lines]
    rows = {tuple(line[:2]): line[2:] for line in words if line[:1] in (["PTQ"], ["QAT"])}
    half = f"{STUDENT * 0.5:.1f}"  # of two values that are 1 apart: the deviation is 1 / sqrt(2)
    assert rows == {
        ("PTQ", "tensor"): ["97.5", "±", half, "57.5", "±", half],
        ("PTQ", "channel"): ["97.5", "±", half, "57.5", "±", half],
        ("QAT", "tensor"): ["97.5", "±", half, "95.5", "±", half],
        ("QAT", "channel"): ["97.5", "±", half, "95.0"],  # the seed that diverged is not in it
    }
    assert sum("ptq" in line and "qat" in line for line in words) == 4  # the methods in pairs, setting by setting
    assert "float baseline: 97.50 %" in out
    assert f"picture: {tmp_path / 'demo.png'}" in lines
    assert any(line.startswith(f"results: {tmp_path}") for line in lines)
    assert "What to try next" in out and lines[-1] == "sweep: 16 cells"
    image = matplotlib.image.imread(tmp_path / "demo.png")
    assert image.shape[1] > 1000 and image.std() > 0.02


def test_what_to_try_next_is_a_command_a_line(records, tmp_path, capsys):
    show_demo(tmp_path, records)
    _, _, tips = capsys.readouterr().out.partition("What to try next")
    commands = [line for line in tips.splitlines()[1:] if line.startswith(" ")]
    assert len(commands) >= 4
    assert all(line.startswith("  qresearch ") and line.count("qresearch ") == 1 for line in commands)


def test_a_demo_without_a_finished_cell_says_so(tmp_path, capsys):
    show_demo(tmp_path, [{"status": "failed", "metrics": {}}])
    said = capsys.readouterr().out
    assert "nan" not in said and "No cell" in said
    assert not (tmp_path / "demo.png").exists()
