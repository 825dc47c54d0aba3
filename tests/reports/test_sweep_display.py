"""What a sweep says of its cells: a line as each ends, the tables and the totals."""

import io
import re
import time

import hydra
import pytest
import scipy.stats
from rich.console import Console

from qresearch.config.schema import CONFIG_FOLDER
from qresearch.reports.differing import differing_keys
from qresearch.reports.sweep_display import SweepDisplay, SweepSummary
from qresearch.reports.sweep_tables import cell_table, settings_table, tables, totals_line
from qresearch.store.journal import note
from qresearch.store.record import code, environment, write_json

OBSERVERS = len(list((CONFIG_FOLDER / "observer").glob("*.yaml")))
METRICS = {"top1_float": 91.734, "sqnr_weight_db_min": 20.06, "size_bytes": 1234, "seconds": 2.0, "test_images": 500}


def record(bits, seed, **changes):
    config = {"method": {"name": "ptq"}, "weight": {"bits": bits, "granularity": "channel"}, "seed": seed}
    found = {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": config,
        "config_hash": f"{bits:04x}{seed:08x}",
        "group": "a",
        "metrics": METRICS | {"top1": 90.0 + seed},
        "programs": {"step": 2},
        "layers": [],
        "environment": {},
    }
    return found | changes


def failed(bits):
    kept = ("schema", "config", "environment")
    return {key: record(bits, 0)[key] for key in kept} | {"status": "failed", "message": "no such width", "metrics": {}}


def printed(table):
    text = io.StringIO()
    Console(file=text, width=160).print(table)
    return [re.split(r"\s{2,}", line.strip()) for line in text.getvalue().splitlines()]


def wilson(right, images):
    low, high = (100 * bound for bound in scipy.stats.binomtest(right, images).proportion_ci(0.95, "wilson"))
    return f"{low:.1f} to {high:.1f}"


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
    assert head == ["weight.bits", "seed", "top-1 %", "95 %", "float %", "worst SQNR w dB", "kB", "s", "status"]
    assert rows == [
        ["8", "0", "90.00", wilson(450, 500), "91.73", "20.1", "1.2", "2.0", "finished"],
        ["4", "1", "91.00", wilson(455, 500), "91.73", "20.1", "1.2", "2.0", "finished"],
        ["17", "0", "-", "-", "-", "-", "-", "-", "failed"],
    ]


def test_methods_are_told_apart_by_their_name():
    other = record(8, 0)
    other["config"] = other["config"] | {"method": {"name": "qat"}}
    head, first, second = printed(cell_table([record(8, 0), other]))
    assert head[0] == "method" and [first[0], second[0]] == ["ptq", "qat"]


def method(name, bits, seed, top1, **changes):
    found = record(bits, seed, metrics=METRICS | {"top1": top1}, **changes)
    return found | {"config": found["config"] | {"method": {"name": name}}}


def test_several_seeds_are_a_mean_with_its_interval():
    """By hand: of 90, 91 and 92 the mean is 91, the deviation 1, and Student's t of two degrees of freedom 4.303."""
    cells = [record(bits, seed) for bits in (8, 4) for seed in (0, 1, 2)][:-1]
    head, eight, four = printed(settings_table(cells))
    assert head == ["weight.bits", "seeds", "top-1 % ± 95 %", "float %", "worst SQNR w dB", "kB", "s"]
    assert eight == ["8", "3", f"91.00 ± {4.302653 / 3**0.5:.2f}", "91.73", "20.1", "1.2", "2.0"]
    assert four == ["4", "2", f"90.50 ± {12.706205 * 0.5**0.5 / 2**0.5:.2f}", "91.73", "20.1", "1.2", "2.0"]


def test_what_changes_no_number_tells_no_settings_apart():
    """A sweep that went on with another tracker, or side by side."""
    second = record(8, 1)
    more = {"tracker": {"mode": "online"}, "sweep": {"stack": "on"}, "runs_dir": "elsewhere"}
    second["config"] = second["config"] | more
    _, *rows = printed(settings_table([record(8, 0), second]))
    assert [row[0] for row in rows] == ["2"]  # seeds
    assert printed(cell_table([record(8, 0), second]))[0][0] == "seed"


def test_seeds_are_shown_as_settings_and_methods_in_pairs():
    cells = [method("ptq", 4, seed, 80.0 + seed) for seed in (0, 1, 2)]
    cells += [method("qat", 4, seed, 90.0 + 1.1 * seed) for seed in (0, 1, 2)]
    settings, pairs = tables(cells)
    assert [row[:2] for row in printed(settings)[1:]] == [["ptq", "3"], ["qat", "3"]]
    assert any("better by 10.1 ± 0.2 points" in cell for row in printed(pairs) for cell in row)


@pytest.mark.parametrize(
    "cells",
    [[record(8, 0), record(4, 0)], [record(8, 0), record(8, 1), failed(17)], [record(8, 0)]],
    ids=["one seed", "a failure", "one cell"],
)
def test_all_else_is_shown_cell_by_cell(cells):
    (table,) = tables(cells)
    assert printed(table)[0][-1] == "status" and len(printed(table)) == 1 + len(cells)


def test_no_cell_has_no_table():
    assert tables([]) == []


def test_totals():
    records = [record(8, 0), record(4, 0, programs={}), record(2, 0, group="b", programs={"step": 1, "evaluate": 3})]
    assert totals_line(records, 1.26) == "sweep: 3 cells, 2 groups, 6 programs, 1.3 s (evaluate 3, step 3)"
    assert totals_line([], 0.0) == "sweep: 0 cells, 0 groups, 0 programs, 0.0 s"
    assert totals_line([*records, failed(17)], 0.0).startswith(
        "sweep: 4 cells, 2 groups, "
    )  # a failed cell ran no program


def test_totals_count_the_programs_of_new_cells_alone():
    records = [record(8, 0), record(4, 0), record(2, 0, programs={"evaluate": 3})]
    kept = [each["config_hash"] for each in records[:2]]
    assert totals_line(records, 1.0, kept=kept) == "sweep: 3 cells (2 kept), 1 group, 3 programs, 1.0 s (evaluate 3)"


@pytest.fixture
def started(tmp_path):
    """A function that starts the display of a sweep with these overrides in a folder."""

    def start(*overrides, **options):
        with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            composed = [override for override in overrides if override.startswith("experiment")]
            given = [*composed, f"hydra.sweep.dir={tmp_path}"]
            cfg = hydra.compose("config", given, return_hydra_config=True)
            cfg.hydra.overrides.task = list(overrides)
            SweepSummary(**options).on_multirun_start(cfg)
        return cfg

    yield start
    if SweepDisplay.active is not None:
        SweepDisplay.active.close()


@pytest.mark.parametrize(
    ("overrides", "cells", "varied"),
    [
        (["seed=0,1,2", "weight.bits=8,4", "act.bits=4"], 6, ["seed", "weight.bits"]),
        (["seed=range(0,5)"], 5, ["seed"]),
        (["method=choice(ptq,qat)"], 2, ["method"]),
        (["tracker=glob(wandb*)"], 2, ["tracker"]),
        (["observer@weight.observer=glob(*,exclude=[mse,percentile])"], OBSERVERS - 2, ["observer@weight.observer"]),
        (["experiment=demo"], 48, ["method", "weight.granularity", "weight.bits", "seed"]),
        (["experiment=demo", "seed=0,1", "method=ptq"], 16, ["weight.granularity", "weight.bits", "seed"]),
        (["weight.bits=4"], 1, []),
    ],
    ids=lambda value: str(value),
)
def test_cells_are_counted_before_they_run(overrides, cells, varied, started):
    started(*overrides)
    assert SweepDisplay.active.total == cells and SweepDisplay.active.varied == varied


def write(folder, found, event=None):
    write_json(folder / found.get("config_hash", "17") / "result.json", found)
    details = {"overrides": ["a=1", f"weight.bits={found['config']['weight']['bits']}"]}
    details |= {"message": found["message"], "top1": found["metrics"].get("top1")}
    said = code(environment()) if event != "older" else "0123456"
    name = {None: found["status"], "older": "kept"}.get(event, event)
    note(folder, name, found.get("config_hash", "17"), **details, code=said)


def test_it_says_each_cell_and_ends_with_all_that_has_ended(started, tmp_path, capsys):
    cfg = started("weight.bits=8,4,2", "a=1")
    note(tmp_path, "started", record(8, 0)["config_hash"])
    write(tmp_path, record(8, 0))
    write(tmp_path, record(4, 0, status="diverged", message="The loss is nan.", metrics={"seconds": 1.0}))
    write(tmp_path, record(2, 0), "kept")
    SweepSummary().on_multirun_end(cfg)
    assert SweepDisplay.active is None
    lines = capsys.readouterr().out.splitlines()
    said = [re.sub(r"  \(\d+ s left\)$", "", line) for line in lines if line.startswith("cell ")]
    assert said == ["cell 1/3  weight.bits=8  top-1 90.00 %", "cell 2/3  weight.bits=4  no result"]
    assert "diverged: The loss is nan." in lines
    *_, where, last = lines
    assert where == f"results: {tmp_path}" and SweepDisplay.totals == last
    assert re.fullmatch(r"sweep: 3 cells \(1 kept\), 1 group, 4 programs, \d\.\d s \(step 4\)", last)
    assert [each["config"]["weight"]["bits"] for each in SweepDisplay.found] == [8, 4, 2]


def test_what_ended_before_it_looked_is_not_told_again(started, tmp_path, capsys):
    """The journal of an earlier command."""
    write(tmp_path, record(8, 0))
    started("weight.bits=8,4")
    write(tmp_path, record(4, 0))
    assert [each["config"]["weight"]["bits"] for each in SweepDisplay.active.close()] == [4]
    assert capsys.readouterr().out.splitlines()[0].startswith("cell 1/2  weight.bits=4")


def test_the_last_cell_is_heard_however_soon_the_sweep_ends(started, tmp_path):
    """Here it ends between a look into the journal and the next."""
    started("weight.bits=8")
    display = SweepDisplay.active
    look = display.follower.read

    def looked():
        found = look()
        if not display.stop.is_set():
            write(tmp_path, record(8, 0))
            display.stop.set()
        return found

    display.follower.read = looked
    display.thread.join(timeout=10)
    assert [each["config"]["weight"]["bits"] for each in display.close()] == [8] and len(display.ended) == 1


def test_results_of_other_code_are_named(started, tmp_path, capsys):
    started("weight.bits=8,4")
    write(tmp_path, record(8, 0), "older")
    write(tmp_path, record(4, 0), "kept")
    SweepDisplay.active.close()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("kept: "))
    assert "1 by the code 0123456" in line and "sweep.force=true" in line


def test_tables_can_be_left_to_others(started, tmp_path, capsys):
    started("weight.bits=8", tables=False)
    write(tmp_path, record(8, 0))
    SweepDisplay.active.close()
    assert "status" not in capsys.readouterr().out and len(SweepDisplay.found) == 1


def test_the_time_that_is_left(tmp_path, monkeypatch):
    """By the pace of the cells that were computed: kept ones cost nothing."""
    display = SweepDisplay(tmp_path, 10)
    display.ended = {"a": "finished", "b": "finished", "c": "kept", "d": "kept"}
    display.counts.update(display.ended.values())
    for seconds, left in ((4, "  (12 s left)"), (40, "  (2 min left)"), (1, "")):
        monkeypatch.setattr(display, "started", time.monotonic() - seconds)
        assert display._left() == left
    display.total = 4
    assert display._left() == ""


def test_the_words_of_the_bar_are_short(tmp_path):
    """They share a line with the bar."""
    display = SweepDisplay(tmp_path, 48)
    assert display._words() == "cells"
    display.running = {"a", "b"}
    display.counts.update(kept=12, failed=3, finished=5)
    assert display._words() == "cells (2 running, 12 kept, 3 failed)" and len(display._words()) <= 40


def test_a_failed_cell_is_the_exit_code_of_its_sweep(started, tmp_path, capsys):
    cfg = started("weight.bits=17")
    write(tmp_path, failed(17))
    with pytest.raises(SystemExit) as caught:
        SweepSummary().on_multirun_end(cfg)
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "error: no such width" in out and "failed" in out
