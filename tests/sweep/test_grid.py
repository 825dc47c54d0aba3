"""Sweeps in this process: cells as `qresearch run` computes them, compiled once for a group, alone or side by side."""

import collections
import itertools
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

import qresearch.execute
from qresearch.cells.compute import Outcome
from qresearch.compose import Composer
from qresearch.config.schema import CONFIG_FOLDER, Stack
from qresearch.execute import run
from qresearch.store.journal import Follower
from qresearch.sweep import grid
from qresearch.sweep.grid import run_grid
from tiny import TINY

ROOT = Path(__file__).parents[2]
UNEQUAL = ("seconds", "programs", "stacked")
# After 23 steps of training. Measured: 1e-7, and no image; but other programs may add sums in another order, and then a
# value near a tie falls to the other side.
QAT_LOSS, QAT_TOP1 = 1e-3, 1.0


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


@pytest.fixture(scope="module")
def swept(composer, tmp_path_factory):
    """A function that runs cells in a new folder of runs and returns the folder of the sweep and the records."""

    def swept(cells, *common, runs=None):
        runs = runs or tmp_path_factory.mktemp("runs")
        lists = [[*TINY, f"runs_dir={runs}", *common, *words] for words in cells]
        composed = [(composer.compose(words), words) for words in lists]
        with jax.numpy_dtype_promotion("standard"):  # float baselines train with optax's Adam
            return runs / "sweep", run_grid(composed, runs / "sweep")

    return swept


def product(**spans):
    """All combinations, as lists of overrides; __ stands for a dot."""
    named = [[f"{key.replace('__', '.')}={value}" for value in values] for key, values in spans.items()]
    return [list(words) for words in itertools.product(*named)]


def metrics(record):
    return {name: value for name, value in record["metrics"].items() if name not in UNEQUAL}


def without_numbers(record):
    """Its message."""
    return record["message"] and re.sub(r" is \S+ after", " is ... after", record["message"])


def curves(folder, record):
    return json.loads((folder / record["config_hash"] / "curves.json").read_text())


ALONE = [
    ["method=float"],
    ["weight.bits=3", "act.bits=4"],
    ["weight.bits=2", "act.bits=null", "seed=1"],
    ["method=qat", "weight.bits=4", "act.bits=3", "optim.learning_rate=0.02"],
    ["method=qat", "weight.bits=2", "act.bits=2", "seed=1"],
]


@pytest.mark.usefixtures("standard_dtypes")
def test_cells_in_turn_are_those_of_single_runs_to_the_last_digit(swept, composer, tmp_path):
    """From a float baseline that each of the two has trained for itself."""
    folder, records = swept(ALONE)
    for number, (words, record) in enumerate(zip(ALONE, records, strict=True)):
        single = run(composer.compose([*TINY, f"runs_dir={tmp_path}", *words]), tmp_path / str(number))
        assert record["status"] == single["status"] == "finished"
        assert metrics(record) == metrics(single) and record["metrics"]["stacked"] == 1
        for key in ("config_hash", "group", "layers", "costs", "audit", "float_tensors"):
            assert record[key] == single[key]
        assert curves(folder, record) == json.loads((tmp_path / str(number) / "curves.json").read_text())


def test_records_are_in_the_order_of_the_cells(swept):
    """Whatever group they are of, and where two are the same cell or one cannot be."""
    words = [["weight.bits=3"], ["method=float"], ["weight.bits=17"], ["weight.bits=2"], ["weight.bits=3", "seed=0"]]
    folder, records = swept(words)
    assert [record["status"] for record in records] == ["finished", "finished", "failed", "finished", "finished"]
    found = [(record["config"]["method"]["name"], record["config"]["weight"]["bits"]) for record in records]
    assert found == [("ptq", 3), ("float", 8), ("ptq", 17), ("ptq", 2), ("ptq", 3)] and records[0] == records[4]
    started = [event["cell"] for event in Follower(folder, from_start=True).read() if event["event"] == "started"]
    assert len(started) == len(set(started)) == 4


# For each method the words that all cells share, and a second value for every number; the first is in the shared words.
NUMBERS = {
    "ptq": (
        ["method=ptq", "observer@act.observer=percentile", "observer@weight.observer=mse"],
        ["weight.bits=3", "act.bits=4", "seed=1", "act.observer.percentile=99", "weight.observer.lowest=0.1"],
        ["baseline.weight_decay=0.01", "baseline.learning_rate=0.02"],
    ),
    "qat": (
        ["method=qat", "weight.bits=4", "act.bits=${weight.bits}", "optim.momentum=0.9"],
        ["weight.bits=2", "seed=1", "optim.learning_rate=0.03", "optim.weight_decay=0.001", "optim.momentum=0.8"],
        ["optim.quantizer_learning_rate=0.005"],
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_compile_nothing(name, swept):
    """Every number is another in a cell of its own, and in the last one all of them are; all programs are those of the
    first cell.
    """
    shared, *others = NUMBERS[name]
    numbers = [number for numbers in others for number in numbers]
    given = [] if name == "ptq" else ["optim.quantizer_learning_rate=0.01"]  # null is a structure of its own
    jax.clear_caches()
    cells = [[*shared, *given], *([*shared, *given, number] for number in numbers), [*shared, *given, *numbers]]
    _, (first, *others) = swept(cells)
    assert first["status"] == "finished" and first["programs"]["evaluate_batch"] == 2  # float and quantized
    assert first["programs"]["train_step"] == 1 + (name == "qat")
    assert {record["group"] for record in others} == {first["group"]}
    assert [record["programs"] for record in others] == [{}] * len(others)
    assert len({record["config_hash"] for record in others} | {first["config_hash"]}) == len(cells)


SIDE_BY_SIDE = {
    "ptq": product(method=["ptq"], weight__bits=[8, 4, 2], act__bits=[8, 4], seed=[0, 1])[:8],
    "qat": [["method=qat", "weight.bits=4", f"optim.learning_rate={rate}"] for rate in (0.05, 0.02, 3, 0.01, 0.03)],
}


@pytest.fixture(scope="module", params=SIDE_BY_SIDE)
def both(request, swept):
    """(method, sweep side by side, the same in turn); the chunks do not divide the cells."""
    jax.clear_caches()
    cells = SIDE_BY_SIDE[request.param]
    return request.param, swept(cells, "sweep.stack=on", "sweep.chunk=3"), swept(cells, "sweep.stack=off")


def test_metrics_say_how_a_cell_was_run(both):
    method, (_, together), (_, alone) = both
    chunks = [3, 3, 3, 3, 3, 3, 2, 2] if method == "ptq" else [3, 3, 3, 2, 2]
    assert [record["metrics"]["stacked"] for record in together] == chunks
    assert {record["metrics"]["stacked"] for record in alone} == {1}


def test_cells_side_by_side_find_what_they_find_alone(both):
    method, (_, together), (_, alone) = both
    for record, other in zip(together, alone, strict=True):
        assert record["status"] == other["status"] and without_numbers(record) == without_numbers(other)
        for key in ("config_hash", "costs", "audit", "float_tensors"):
            assert record[key] == other[key]
        if method == "ptq":
            assert metrics(record) == pytest.approx(metrics(other), rel=1e-4, abs=1e-6)
        elif record["status"] == "finished":
            assert record["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=QAT_LOSS)
            assert record["metrics"]["top1"] == pytest.approx(other["metrics"]["top1"], abs=QAT_TOP1)


def test_a_cell_that_diverges_disturbs_none_and_keeps_its_curves(both):
    method, (folder, together), (alone_folder, alone) = both
    diverged = [number for number, record in enumerate(together) if record["status"] == "diverged"]
    assert diverged == ([2] if method == "qat" else [])
    for number, (record, other) in enumerate(zip(together, alone, strict=True)):
        found, expected = curves(folder, record), curves(alone_folder, other)
        assert found.keys() == expected.keys() and found["baseline"] == expected["baseline"]
        trained = {"diverged"} if number in diverged else {"qat"} if method == "qat" else set()
        assert found.keys() == {"baseline"} | trained
        for stage in found.keys() - {"baseline"}:
            assert [point["step"] for point in found[stage]] == [point["step"] for point in expected[stage]]
            losses = [[point["loss"] for point in stages[stage]] for stages in (found, expected)]
            assert losses[0] == pytest.approx(losses[1], rel=QAT_LOSS)
    if method == "qat":
        assert len(curves(folder, together[2])["diverged"]) > 1 and "top1" not in together[2]["metrics"]
        assert re.match(r"The scale/\S+ is -\S+ after step \d+;", together[2]["message"])


def test_side_by_side_numbers_compile_nothing_either(both):
    """A program for each number of cells: chunks are of three, the last one of two."""
    method, (_, together), _ = both
    compiled = [number for number, record in enumerate(together) if record["programs"]]
    assert compiled == ([0, 6] if method == "ptq" else [0, 3])
    counts = collections.Counter()
    for record in together:
        counts.update({name: count for name, count in record["programs"].items() if name.endswith("_together")})
    expected = {"evaluate_batch_together": 2, "measure_errors_together": 2}
    if method == "qat":  # of the first three one diverges, so that two go on as those of the last chunk do
        expected = dict.fromkeys(("start_training_together", "train_step_together", "mean_and_least_together"), 2)
        expected |= {"evaluate_batch_together": 2, "measure_errors_together": 1}
    assert counts == expected


ON_THREE = """
import json, sys
from pathlib import Path
import jax
from qresearch.compose import Composer
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.sweep.grid import run_grid
assert jax.local_device_count() == 3
composer, runs = Composer.start(CONFIG_FOLDER), Path(sys.argv[1])
cells = [[*words, f"runs_dir={runs}", "sweep.stack=on", "sweep.chunk=4"] for words in json.load(sys.stdin)]
records = run_grid([(composer.compose(words), words) for words in cells], runs / "sweep")
print(json.dumps(records))
"""


@pytest.mark.parametrize("both", [pytest.param("ptq", marks=pytest.mark.slow), "qat"], indirect=True)
def test_on_three_devices_cells_find_what_they_find_alone(both, tmp_path):
    method, _, (_, alone) = both
    cells = [[*TINY, *words] for words in SIDE_BY_SIDE[method][:4]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    options = {"env": environment | {"JAX_PLATFORMS": "cpu"}, "capture_output": True, "text": True, "timeout": 300}
    command = [sys.executable, "-c", ON_THREE, str(tmp_path)]
    done = subprocess.run(command, input=json.dumps(cells), **options)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout.splitlines()[-1])
    assert {record["environment"]["devices"] for record in records} == {3}
    assert {record["status"] for record in records} <= {"finished", "diverged"}, records
    assert [record["metrics"]["stacked"] for record in records] == [4] * 4
    for record, other in zip(records, alone[:4], strict=True):
        assert (record["config_hash"], record["status"]) == (other["config_hash"], other["status"])
        if method == "ptq":
            assert metrics(record) == pytest.approx(metrics(other), rel=1e-4, abs=1e-6)
        elif record["status"] == "finished":
            assert record["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=QAT_LOSS)
            assert record["metrics"]["top1"] == pytest.approx(other["metrics"]["top1"], abs=QAT_TOP1)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told how long something takes."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(grid, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def sizes(way, cells, seconds, clock):
    """How many cells were taken at a time, where `seconds(size, how often before)` is what they take."""
    taken = []
    while cells:
        size = min(way.next(), cells)

        def work(size=size):
            clock.seconds += seconds(size, taken.count(size))
            return [{}] * size

        assert way.timed(size, work, counts=True) == [{}] * size
        taken.append(size)
        cells -= size
    return taken


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        (3.9, [1, 1, 4, 4, 4, 4, 2]),  # 3.9 s for four, against 1 s for one
        (4.1, [1, 1, 4, 4] + [1] * 10),
    ],
)
def test_the_faster_way_goes_on(together, expected, clock):
    """The first time of either is not looked at: it holds the compilation."""
    cost = {1: 1.0, 4: together}
    way = grid._Way(4, None)
    assert sizes(way, 20, lambda size, before: cost.get(size, 2.0) + 50 * (before == 0) * size, clock) == expected


@pytest.mark.parametrize(("stack", "expected"), [(Stack.on, [4, 4, 2]), (Stack.off, [1] * 10), (Stack.auto, [1] * 10)])
def test_what_is_decided_is_not_tried(stack, expected, clock):
    """auto on a CPU is off."""
    assert sizes(grid._Way(4, grid._decided(stack)), 10, lambda size, before: 1.0, clock) == expected


@pytest.mark.parametrize(("stack", "decided"), [(Stack.on, True), (Stack.off, False), (Stack.auto, None)])
def test_on_an_accelerator_auto_is_tried(stack, decided, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert grid._decided(stack) is decided


def test_what_was_there_or_is_left_to_others_is_no_measure(clock):
    way = grid._Way(4, None)
    way.timed(1, lambda: [{}], counts=False)
    way.timed(1, lambda: [None], counts=True)
    assert way.seconds == {} and way.next() == 1


def tried(monkeypatch):
    """As on an accelerator; the sizes in which cells are taken."""
    taken, real = [], grid.settle

    def settle(jobs, *, force=False, wait=False):
        taken.append(len(jobs))
        return real(jobs, force=force, wait=wait)

    monkeypatch.setattr(grid, "settle", settle)
    monkeypatch.setattr(grid, "_decided", lambda stack: None)
    return taken


def test_a_sweep_that_goes_on_is_tried_with_new_cells(swept, tmp_path, monkeypatch):
    """Kept ones take no time, and would win whatever is compared."""
    cells = product(weight__bits=[8, 7, 6, 5, 4, 3, 2], seed=[0, 1])
    swept(cells[:3], runs=tmp_path)
    taken = tried(monkeypatch)
    _, records = swept(cells, "sweep.chunk=3", runs=tmp_path)
    assert taken[:7] == [1, 1, 1, 1, 1, 3, 3] and sum(taken) == len(cells)
    assert [record["metrics"]["stacked"] for record in records[:11]] == [1] * 5 + [3] * 6
    assert {record["status"] for record in records} == {"finished"}


@pytest.fixture
def small_device(monkeypatch):
    """One that has no room for more than two cells; the sizes that were tried."""
    tried, real = [], qresearch.execute.run_cells

    def run_cells(cells, shared, listen):
        tried.append(len(cells))
        if len(cells) <= 2:
            return real(cells, shared, listen)
        error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes.")
        return [Outcome(error=error) for _ in cells]

    monkeypatch.setattr(qresearch.execute, "run_cells", run_cells)
    return tried


@pytest.mark.parametrize("force", ["false", "true"])
def test_cells_that_have_no_room_side_by_side_are_halved(force, small_device, swept):
    cells = product(weight__bits=[8, 6, 4, 3, 2])
    folder, records = swept(cells, "sweep.stack=on", f"sweep.force={force}")
    assert small_device == [5, 2, 3, 1, 2]
    assert [record["metrics"]["stacked"] for record in records] == [2, 2, 1, 2, 2]
    on_disk = [json.loads((folder / record["config_hash"] / "result.json").read_text()) for record in records]
    assert [record["status"] for record in on_disk] == ["finished"] * 5


def test_a_cell_that_has_no_room_alone_has_failed(swept, monkeypatch):
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    outcome = Outcome(error=error)
    monkeypatch.setattr(qresearch.execute, "run_cells", lambda cells, *_: [outcome for _ in cells])
    _, records = swept(product(weight__bits=[8, 4]), "sweep.stack=on")
    assert [record["status"] for record in records] == ["failed"] * 2 and "Out of memory" in records[0]["message"]


# Holds a cell until the result of another one is there.
HOLD = """
import sys, time
from pathlib import Path
from qresearch.store.claims import take
folder, mine, other = Path(sys.argv[1]), *sys.argv[2:]
print(take(folder, mine), flush=True)
while not (folder / other / "result.json").exists():
    time.sleep(0.01)
time.sleep(0.3)
print((folder / mine).exists(), flush=True)
"""


def test_a_cell_that_another_process_has_comes_last(swept, tmp_path):
    """And is computed here if the other process ends without a result."""
    cells = product(weight__bits=[8, 4, 2])
    _, records = swept(cells, runs=tmp_path / "first")
    folder, names = tmp_path / "second" / "sweep", [record["config_hash"] for record in records]
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", HOLD, str(folder), names[0], names[2]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        _, again = swept(cells, runs=tmp_path / "second")
        assert process.stdout.readline() == "False\n"
    assert [metrics(record) for record in again] == [metrics(record) for record in records]
    events = Follower(folder, from_start=True).read()
    assert [event["cell"] for event in events if event["event"] == "finished"] == [names[1], names[2], names[0]]
