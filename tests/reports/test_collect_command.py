"""`qresearch collect`: one line of counts, one for each file that cannot be read, and its exit codes."""

import re
import shutil

import pytest

from qresearch.reports.collect_command import main
from qresearch.store.index import indexed
from qresearch.store.record import write_json

RECORD = {
    "schema": 2,
    "status": "finished",
    "message": None,
    "config": {"weight": {"bits": 4}},
    "config_hash": "0123456789ab",
    "overrides": [],
    "group": "0a1b2c3d",
    "metrics": {"top1": 91.5},
    "layers": [],
    "environment": {},
    "finished_at": "2026-11-23T12:00:00+00:00",
}


def said(capsys):
    out, err = capsys.readouterr()
    return re.sub(r"\d+\.\d s$", "S s", out.strip()), err.splitlines()


def test_counts_and_unreadable_ones(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        write_json(tmp_path / "runs" / name / "result.json", RECORD)
    main([])
    assert said(capsys) == (
        "collected: 3 records (3 new, 0 kept, 0 removed, 0 unreadable) in runs/index.sqlite, S s",
        [],
    )
    shutil.rmtree(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "b" / "result.json").write_text('{"schema": ')
    write_json(tmp_path / "runs" / "d" / "result.json", RECORD)
    for new, kept, removed in ((1, 1, 1), (0, 2, 0)):
        main(["runs"])
        line, told = said(capsys)
        counts = f"{new} new, {kept} kept, {removed} removed, 1 unreadable"
        assert line == f"collected: 2 records ({counts}) in runs/index.sqlite, S s"
        assert len(told) == 1 and told[0].startswith("unreadable: runs/b/result.json cannot be read (Expecting value")
    assert [row["path"] for row in indexed(tmp_path / "runs")] == ["c/result.json", "d/result.json"]


def test_no_folder_exits_with_1(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "none")])
    assert said(capsys) == (
        "",
        [f"error: {tmp_path / 'none'}: there is no such folder. Name the one in which the runs lie."],
    )


@pytest.mark.parametrize("arguments", [["a", "b"], ["--all"]])
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: qresearch collect" in capsys.readouterr().err
