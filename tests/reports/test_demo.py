"""The demo's table and picture, from records that nobody had to compute."""

import io

import matplotlib.image
import pytest
from rich.console import Console

from qresearch.reports.demo import Point, demo_table, mean_and_spread, show_demo, sweep_folder
from qresearch.store.record import write_json


def metrics(top1, sqnr=20.0):
    return {"top1": top1, "top1_float": 97.5, "sqnr_weight_db_min": sqnr}


def printed(table):
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return text.getvalue().splitlines()


def test_mean_and_spread_by_hand():
    # mean 92, deviations -2, 0, 2: the variance of a sample is 8 / 2
    assert mean_and_spread([90.0, 92.0, 94.0]) == "92.0 ± 2.0"
    assert mean_and_spread([90.0, 93.0]) == f"91.5 ± {(2 * 1.5**2) ** 0.5:.1f}"
    assert mean_and_spread([91.26]) == "91.3"
    assert mean_and_spread([5.0, 5.0]) == "5.0 ± 0.0"
    assert mean_and_spread([]) == "-"


def test_table_has_a_row_for_each_method_and_granularity_and_a_column_for_each_width():
    cells = {
        Point("ptq", "tensor", 4): [metrics(80.0), metrics(84.0)],
        Point("ptq", "tensor", 8): [metrics(97.0), metrics(97.0)],
        Point("qat", "channel", 4): [metrics(96.5)],
    }
    *title, head, first, second = printed(demo_table(cells))
    assert "mean ± standard deviation" in title[0]
    assert head.split() == ["method", "scale", "per", "8", "bits", "4", "bits"]
    assert [row.split() for row in (first, second)] == [
        ["PTQ", "tensor", "97.0", "±", "0.0", "82.0", "±", "2.8"],
        ["QAT", "channel", "-", "96.5"],
    ]


@pytest.fixture
def folder(tmp_path):
    """A sweep of 2 methods x 2 granularities x 2 widths x 2 seeds; its last cell diverged."""
    number = 0
    for method, drop in (("ptq", 40), ("qat", 2)):
        for granularity in ("tensor", "channel"):
            for bits in (8, 2):
                for seed in (0, 1):
                    top1 = 97.0 - drop * (bits == 2) + seed
                    weight = {"granularity": granularity, "bits": bits}
                    found = {
                        "status": "finished",
                        "config": {"method": {"name": method}, "weight": weight, "seed": seed},
                        "metrics": metrics(top1, 6.0 * bits),
                    }
                    write_json(tmp_path / str(number) / "result.json", found)
                    number += 1
    write_json(tmp_path / str(number - 1) / "result.json", found | {"status": "diverged", "metrics": {"seconds": 1.0}})
    return tmp_path


def test_show_demo_prints_the_table_and_draws_the_picture(folder, capsys):
    show_demo(folder)
    out = capsys.readouterr().out
    lines = out.splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines if line.split()[:1] in (["PTQ"], ["QAT"])}
    assert rows == {
        ("PTQ", "tensor"): ["97.5", "±", "0.7", "57.5", "±", "0.7"],
        ("PTQ", "channel"): ["97.5", "±", "0.7", "57.5", "±", "0.7"],
        ("QAT", "tensor"): ["97.5", "±", "0.7", "95.5", "±", "0.7"],
        ("QAT", "channel"): ["97.5", "±", "0.7", "95.0"],  # the seed that diverged is not in it
    }
    assert "float baseline: 97.50 %" in out
    assert f"picture: {folder / 'demo.png'}" in lines
    assert any(line.startswith(f"results: {folder}") for line in lines)
    assert "What to try next" in out
    image = matplotlib.image.imread(folder / "demo.png")
    assert image.shape[1] > 1000 and image.std() > 0.02


def test_what_to_try_next_is_a_command_a_line(folder, capsys):
    show_demo(folder)
    _, _, tips = capsys.readouterr().out.partition("What to try next")
    commands = [line for line in tips.splitlines()[1:] if line.startswith(" ")]
    assert len(commands) >= 4
    assert all(line.startswith("  qresearch ") and line.count("qresearch ") == 1 for line in commands)


def test_a_demo_without_a_finished_cell_says_so(tmp_path, capsys):
    show_demo(tmp_path)
    assert "nan" not in capsys.readouterr().out
    assert not (tmp_path / "demo.png").exists()


def test_every_demo_has_a_folder_of_its_own_under_runs():
    folder = sweep_folder()
    assert folder.parts[0] == "runs" and folder.name.startswith("demo_") and not folder.exists()
