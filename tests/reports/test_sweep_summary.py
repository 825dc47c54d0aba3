"""What a sweep says of its cells: which keys tell them apart, the table and the totals."""

import io
import types

import hydra
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from qresearch.config import CONFIG_FOLDER
from qresearch.reports.sweep_summary import SweepSummary, _cells, cell_table, differing_keys, totals_line
from qresearch.store.record import write_json

OBSERVERS = len(list((CONFIG_FOLDER / "observer").glob("*.yaml")))


def record(bits, seed, **changes):
    config = {"method": {"name": "ptq"}, "weight": {"bits": bits, "granularity": "channel"}, "seed": seed}
    metrics = {"top1": 90.0 + seed, "top1_float": 91.734, "sqnr_weight_db": 20.06, "size_bytes": 1234, "seconds": 2.0}
    return {"status": "finished", "group": "a", "config": config, "metrics": metrics, "programs": {"step": 2}} | changes


def failed(bits):
    return {"status": "failed", "config": record(bits, 0)["config"], "metrics": {}}


def printed(table):
    text = io.StringIO()
    Console(file=text, width=160).print(table)
    return [line.split() for line in text.getvalue().splitlines()]


def test_keys_in_which_cells_differ():
    configs = [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "c": 3}]
    assert differing_keys(configs) == ["b"]
    assert differing_keys([]) == differing_keys(configs[:1]) == []


def test_a_key_that_some_cells_lack_differs():
    assert differing_keys([{"a": 1}, {"a": 1, "b": 2}]) == ["b"]
    assert differing_keys([{"a": None}, {"a": 0}, {"a": False}]) == ["a"]


def test_of_keys_that_change_together_the_first_that_is_no_class_stands_for_all():
    configs = [
        {"optim._target_": "SGD", "optim.rate": 0.1, "weight.bits": 8, "act.bits": 8, "seed": 0},
        {"optim._target_": "Adam", "optim.rate": 0.2, "weight.bits": 4, "act.bits": 4, "seed": 0},
        {"optim._target_": "SGD", "optim.rate": 0.1, "weight.bits": 4, "act.bits": 4, "seed": 1},
    ]
    assert differing_keys(configs) == ["optim.rate", "weight.bits", "seed"]


def test_table_has_a_row_for_every_cell_failed_ones_too():
    head, *rows = printed(cell_table([record(8, 0), record(4, 1), failed(17)]))
    assert head[:2] == ["weight.bits", "seed"] and head[-1] == "status"
    assert rows == [
        ["8", "0", "90.00", "91.73", "20.1", "1.2", "2.0", "finished"],
        ["4", "1", "91.00", "91.73", "20.1", "1.2", "2.0", "finished"],
        ["17", "0", "-", "-", "-", "-", "-", "failed"],
    ]


def test_methods_are_told_apart_by_their_name():
    other = record(8, 0)
    other["config"] = other["config"] | {"method": {"name": "qat"}}
    head, first, second = printed(cell_table([record(8, 0), other]))
    assert head[0] == "method" and [first[0], second[0]] == ["ptq", "qat"]


def test_totals():
    records = [record(8, 0), record(4, 0, programs={}), record(2, 0, group="b", programs={"step": 1, "evaluate": 3})]
    assert totals_line(records, 1.26) == "sweep: 3 cells, 2 groups, 6 programs, 1.3 s (evaluate 3, step 3)"
    assert totals_line([], 0.0) == "sweep: 0 cells, 0 groups, 0 programs, 0.0 s"
    assert totals_line([*records, failed(17)], 0.0).startswith(
        "sweep: 4 cells, 2 groups, "
    )  # a failed cell ran no program


@pytest.mark.parametrize(
    ("overrides", "cells"),
    [
        (["seed=0,1,2", "weight.bits=8,4", "act.bits=4"], 6),
        (["seed=range(0,5)"], 5),
        (["method=choice(ptq,qat)"], 2),
        (["tracker=glob(wandb*)"], 2),
        (["observer@weight.observer=glob(*,exclude=[mse,percentile])"], OBSERVERS - 2),
        (["experiment=demo"], 48),
        (["experiment=demo", "seed=0,1", "method=ptq"], 16),
        (["weight.bits=4"], 1),
    ],
    ids=lambda value: str(value),
)
def test_cells_are_counted_before_they_run(overrides, cells):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        composed = [override for override in overrides if override.startswith("experiment")]
        cfg = hydra.compose("config", composed, return_hydra_config=True)
        cfg.hydra.overrides.task = overrides
        assert _cells(cfg) == cells


def test_close_says_what_has_finished(tmp_path, capsys):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", return_hydra_config=True, overrides=[f"hydra.sweep.dir={tmp_path}"])
        summary = SweepSummary()
        summary.on_multirun_start(cfg)
        assert SweepSummary.active is summary
        for number, found in enumerate((record(8, 0), record(4, 0))):
            write_json(tmp_path / str(number) / "result.json", found)
        summary.on_multirun_end(cfg)
    assert SweepSummary.active is None
    *_, where, last = capsys.readouterr().out.splitlines()
    assert where == f"results: {tmp_path}"
    assert last.startswith("sweep: 2 cells, 1 groups, 4 programs, ") and SweepSummary.totals == last


def test_the_bar_has_room_beside_its_words():
    described = []
    summary = SweepSummary()
    summary.done, summary.total, summary.bar = 0, 48, lambda description, done, total: described.append(description)
    overrides = ["method=qat", "weight.granularity=channel", "weight.bits=2", "seed=2", "experiment=demo"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SweepSummary, "active", summary)
        summary.on_job_end(OmegaConf.create(), types.SimpleNamespace(overrides=overrides, _return_value=90.0))
    assert len(described[0]) <= 40


def test_a_failed_cell_is_the_exit_code_of_its_sweep(tmp_path, capsys):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", return_hydra_config=True, overrides=[f"hydra.sweep.dir={tmp_path}"])
        summary = SweepSummary()
        summary.on_multirun_start(cfg)
        write_json(tmp_path / "0" / "result.json", failed(17))
        with pytest.raises(SystemExit) as caught:
            summary.on_multirun_end(cfg)
    assert caught.value.code == 1
    assert "failed" in capsys.readouterr().out
