"""`qresearch table` as it is typed: what it lists, shows and runs, and what it says of bad input."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from qresearch.cli import USAGE
from qresearch.compose import Composer
from qresearch.config.check import check, config_hash
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.run import run
from qresearch.tables import command, file

TINY = ["model=mlp", "model.width=8", "baseline.epochs=1", "calibration.images=16", "anatomy_images=8", "tracker=none"]
NETS = {
    "_target_": "qresearch.tables.sweep_table.SweepTable",
    "title": "Nets of [8] units",
    "overrides": TINY,
    "rows": {"PTQ": ["method=ptq"]},
    "columns": {"8 bits": ["weight.bits=8"], "1e30": ["baseline.learning_rate=1e30"]},
    "seeds": [0, 1],
    "decimals": 1,
    "compare": ["weight.bits"],
    "budgets": {
        "smoke": {"minutes": 0.1, "hardware": "any CPU", "seeds": [0], "columns": ["8 bits"]},
        "short": {"minutes": 0.5, "hardware": "any CPU"},
    },
}
MAX = {
    "_target_": "qresearch.tables.exact_table.ExactTable",
    "title": "NF4",
    "published": "nf4_codebook",
    "compute": "qresearch.theory.nf4.levels",
}


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


@pytest.fixture
def tables(composer, tmp_path, monkeypatch):
    """Two tables in a folder, with an empty folder to work in; to start a composer takes half a second."""
    monkeypatch.setattr(Composer, "start", lambda folder: composer)
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name, content in (("nets", NETS), ("nf4", MAX)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(file, "TABLES_FOLDER", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def refuse(cells, folder):
    raise AssertionError(f"{len(cells)} cells were to be run")


def each_by_itself(cells, folder, composer):
    """Run the cells of a table one after the other."""
    there = len(list(folder.glob("*")))
    for number, overrides in enumerate(cells, there):
        run(composer.compose(overrides), folder / str(number), overrides=overrides)


def table(*arguments, sweep=refuse):
    command.main(list(arguments), sweep)


def printed(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_list_says_how_far_every_table_is(tables, capsys):
    table()
    lines = printed(capsys)
    assert lines[0] == ["table", "kind", "cells", "title"]
    text = "\n".join(" ".join(line) for line in lines)
    assert "nets sweep smoke: 1 cell not run (0 of 1 runs are there) Nets of [8] units" in text
    assert "short: 2 cells not run (0 of 4 runs are there)" in text
    assert "nf4 exact 16 cells reproduced NF4" in text


def test_one_is_run_and_shown_and_what_is_there_is_not_run_again(tables, composer, capsys, standard_dtypes):
    table("nets", "smoke")
    assert printed(capsys)[2] == ["PTQ", "not", "run"]

    asked = []

    def watched(cells, folder):
        asked.append((len(cells), folder))
        each_by_itself(cells, folder, composer)

    table("nets", "run", "smoke", sweep=watched)
    captured = capsys.readouterr()
    assert "1 of 1 runs to do (all take 0.1 minutes on any CPU)" in captured.err
    (path,) = Path("runs/table_nets").glob("*/result.json")
    record = json.loads(path.read_text())
    assert record["overrides"][:-2] == [*TINY, "method=ptq", "weight.bits=8", "seed=0"]
    assert f"PTQ {record['metrics']['top1']:.1f} [" in " ".join(captured.out.split())

    table("nets", "run", "short", sweep=watched)  # the smoke run is one of its four; two diverge
    captured = capsys.readouterr()
    assert asked == [(1, Path("runs/table_nets")), (3, Path("runs/table_nets"))]
    assert "3 of 4 runs to do" in captured.err
    shown = " ".join(captured.out.split())
    assert " ± " in shown and "diverged (1)" in shown and "(1) seed 0: The " in shown
    table("nets", "run", "short")  # a diverged run is a result: nothing is left to do
    assert "0 of 4 runs to do" in capsys.readouterr().err
    table("nets", "smoke", "runs_dir=elsewhere")
    assert printed(capsys)[2] == ["PTQ", "not", "run"]


def test_a_cell_that_fails_is_told_of_and_tried_again(tables, composer, capsys):
    calls = []

    def failing(cells, folder):
        calls.append(cells)
        record = {"schema": 2, "status": "failed", "message": "no data", "config": {}, "metrics": {}, "environment": {}}
        for overrides in cells:
            path = folder / config_hash(check(composer.compose(overrides))) / "result.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))

    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            table("nets", "run", "smoke", sweep=failing)
        assert caught.value.code == 1
        shown = " ".join(capsys.readouterr().out.split())
        assert "failed (1)" in shown and "(1) seed 0: no data" in shown
    assert len(calls) == 2


def test_folders_with_blanks_and_quotes_reach_the_cells(tables, composer):
    seen = []

    def watched(cells, folder):
        composed = composer.compose(cells[0])
        seen.append((composed.runs_dir, composed.sweep.name, folder))

    for place in ("a b", "it's", "c=d,e", "f\\'g"):
        table("nets", "run", "smoke", f"runs_dir={place}", sweep=watched)
        assert seen.pop() == (place, "table_nets", Path(place) / "table_nets")


def test_formats_by_option_and_by_the_name_of_the_file(tables, capsys):
    table("nf4", "--format", "markdown")
    assert capsys.readouterr().out.startswith("### NF4\n")
    for name, start in (
        ("a.tex", "% "),
        ("b.html", "<!doctype"),
        ("c.csv", "row,column"),
        ("d.md", "###"),
        ("e.txt", "NF4"),
    ):
        table("nf4", "-o", f"new/{name}")
        assert capsys.readouterr().out == f"table: new/{name}\n"
        assert Path("new", name).read_text().startswith(start)
    table("--format", "csv", "nf4", "-o", "f.txt")
    with open("f.txt") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 16 and {row["verdict"] for row in rows} == {"reproduced"}


def test_a_table_of_ones_own_is_named_by_its_path(tables, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(NETS | {"title": "Mine"}, sort_keys=False))
    table(str(tmp_path / "mine.yaml"))
    assert printed(capsys)[0] == ["Mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net"], "'net' is no table; there are nets, nf4, or name a yaml file."),
        (["none.yaml"], "'none.yaml' is no table"),
        (["nets", "long"], "There is no budget 'long'; there are smoke, short."),
        (["nets", "paper"], "There is no budget 'paper'; there are smoke, short."),
        (["nf4", "smoke"], "nf4 is computed when it is shown, and has no budgets."),
        (["nets", "smoke", "short"], "more than one of a kind"),
        (["nets", "run", "run"], "more than one of a kind"),
        (["nets", "weight.bits=4"], "weight.bits=4: a table takes runs_dir=DIR alone"),
        (["nets", "--format", "word"], "invalid choice: 'word'"),
        (["--format", "csv"], "there is no table in '--format csv'"),
        (["nets", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_2(arguments, message, tables, capsys):
    with pytest.raises(SystemExit) as caught:
        table(*arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out and "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NETS | {"rows": {"PTQ": ["weight.bit=8"]}}, "row 'PTQ', column '8 bits': "),
        (NETS | {"published": "nothing", "tolerance": 1.0}, "published=nothing: "),
        (NETS | {"published": "small_ptq_resnet20", "tolerance": 1.0}, "has no row 'PTQ'"),
        (NETS | {"title": ["a"]}, "title: "),
        (MAX | {"columns": ["nothing"]}, "has no column 'nothing'"),
    ],
)
def test_a_bad_table_is_one_message_with_its_file_before_anything_runs(content, message, tables, capsys):
    (tables / "bad.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(SystemExit) as caught:
        table("bad", "run")
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "bad.yaml: " in line and message in line
    with pytest.raises(SystemExit) as caught:
        table()
    assert caught.value.code == 1
    listed = capsys.readouterr().out
    assert "nf4" in listed and "error:" in listed  # the others are listed all the same


def test_a_record_that_cannot_be_read_is_told_of(tables, capsys):
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/result.json").write_text("{")
    table("nets")
    captured = capsys.readouterr()
    assert captured.err.startswith("unreadable: ") and "not run" in captured.out


def test_ctrl_c_says_what_is_kept(tables, capsys):
    def interrupted(cells, folder):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        table("nets", "run", sweep=interrupted)
    assert caught.value.code == 130
    assert "interrupted: finished runs are kept" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_message(tables, capsys):
    Path("folder.txt").mkdir()
    with pytest.raises(SystemExit) as caught:
        table("nf4", "-o", "folder.txt")
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_help_says_how_to_run_one(capsys):
    with pytest.raises(SystemExit) as caught:
        table("--help")
    assert caught.value.code == 0
    assert "qresearch table NAME run" in capsys.readouterr().out
    assert "  table [NAME" in USAGE
