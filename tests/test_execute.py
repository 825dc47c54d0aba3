"""Cells in the folder of a sweep: what is kept, what is computed again, and what two processes do to one another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import qresearch.execute
from qresearch.compose import Composer
from qresearch.config.check import check, config_hash
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.execute import finished, run, settle, sweep_job
from qresearch.store.claims import release, take
from qresearch.store.journal import Follower
from qresearch.store.record import read_record
from tiny import TINY

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where the stages lie that all cells of this file share."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def job(composer, runs, tmp_path):
    """A function that makes the job of a cell of a sweep."""

    def made(*overrides):
        overrides = [*TINY, f"runs_dir={runs}", *overrides]
        return sweep_job(composer.compose(overrides), overrides, tmp_path / "sweep")

    (tmp_path / "sweep").mkdir()
    return made


def state(job):
    """What would show that a result was written anew."""
    path = job.folder / "result.json"
    return path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()


def events(folder):
    return [(event["event"], event["cell"]) for event in Follower(folder, from_start=True).read()]


def test_a_job_is_a_cell_named_by_the_hash_of_its_configuration(job, tmp_path):
    one = job("weight.bits=3")
    assert one.problem is None and one.cell.cfg is one.cfg and one.group == one.cell.group != ""
    assert one.name == config_hash(check(one.given)) and one.folder == tmp_path / "sweep" / one.name
    assert one.overrides[-1] == "weight.bits=3" and not one.folder.exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["weight.bits=17"], "bits=17 is outside 1..16"),  # known when it is built
        (["+weight.observer.more=1"], "weight.observer"),  # when it is checked
        (["act.bits=${weight.bitz}"], "weight.bitz"),  # not even resolved
    ],
)
def test_what_cannot_be_is_a_job_with_a_problem(overrides, said, job):
    one = job(*overrides)
    assert said in str(one.problem) and one.cell is None and one.group == "" and len(one.name) == 12
    (record,) = settle([one])
    assert record["status"] == "failed" and said in record["message"] and "group" not in record
    assert read_record(one.folder / "result.json")["message"] == record["message"]
    assert [event for event, _ in events(one.folder.parent)] == ["started", "failed"]
    assert OmegaConf.is_config(one.given) and record["config"]["model"]["width"] == 8


def test_a_result_is_kept(job):
    one = job("weight.bits=3")
    (first,) = settle([one])
    before = state(one)
    (again,) = settle([job("weight.bits=3", "sweep.name=other", "weight.bits=3")])
    assert again["metrics"] == first["metrics"] and state(one) == before
    assert again["overrides"] == list(one.overrides)  # those of the command that computed it
    assert events(one.folder.parent) == [("started", one.name), ("finished", one.name), ("kept", one.name)]


def test_force_computes_it_again(job):
    one = job("weight.bits=3")
    settle([one])
    before = state(one)
    (again,) = settle([one], force=True)
    assert state(one)[:2] != before[:2] and again["metrics"]["top1"] == json.loads(before[2])["metrics"]["top1"]
    assert [event for event, _ in events(one.folder.parent)] == ["started", "finished"] * 2


def test_a_diverged_cell_is_a_result_and_a_failed_one_is_not(job):
    diverged, failed = job("baseline.learning_rate=1e30"), job("calibration.images=1501")
    assert [settle([one])[0]["status"] for one in (diverged, failed)] == ["diverged", "failed"]
    before = state(diverged), state(failed)
    assert [settle([one])[0]["status"] for one in (diverged, failed)] == ["diverged", "failed"]
    assert state(diverged) == before[0] and state(failed)[:2] != before[1][:2]


def test_what_failed_is_tried_again_until_it_has_a_result(job, monkeypatch):
    one = job("weight.bits=3")
    with monkeypatch.context() as patch:
        patch.setattr(qresearch.execute, "run_cells", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):  # not a cell's own failure: the whole sweep stops
            settle([one])
    assert not (one.folder / "result.json").exists() and finished(one.folder) is None
    assert settle([one])[0]["status"] == "finished" and finished(one.folder)["status"] == "finished"


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 2}', b'{"schema": 99, "status": "finished"}', b"[]", b"\xff\xfe"], ids=repr
)
def test_a_damaged_result_is_set_aside_and_named(content, job, capsys):
    one = job("weight.bits=3")
    (first,) = settle([one])
    for number in range(2):
        (one.folder / "result.json").write_bytes(content)
        (again,) = settle([one])
        assert again["metrics"]["top1"] == first["metrics"]["top1"] and again["status"] == "finished"
        assert (one.folder / f"damaged-{number}.result.json").read_bytes() == content
        said = capsys.readouterr().out
        assert str(one.folder) in said.replace("\n", "") and f"damaged-{number}.result.json" in said
    assert [event for event, _ in events(one.folder.parent)] == ["started", "finished"] * 3


def test_the_folder_of_a_cell_that_was_killed_is_used_again(job):
    """Whatever lies there, but for a whole result."""
    one = job("weight.bits=3")
    one.folder.mkdir()
    (one.folder / "audit.txt").write_text("half")
    (one.folder / "curves.json").write_text("{")
    (one.folder / "result.json.0123.part").write_bytes(b'{"schema": 2, "st')
    (record,) = settle([one])
    assert record["status"] == "finished" and (one.folder / "audit.txt").read_text().startswith("audit: ")
    assert json.loads((one.folder / "curves.json").read_text()).keys() == {"baseline"}


def test_the_journal_has_the_headline(job):
    one = job("weight.bits=3")
    (record,) = settle([one])
    settle([one])
    started, *told = Follower(one.folder.parent, from_start=True).read()
    assert started["event"] == "started"
    for event in told:
        assert event["top1"] == record["metrics"]["top1"] and event["overrides"] == list(one.overrides)
        assert event["process"] == os.getpid() and event["message"] is None


HOLD = """
import sys
from pathlib import Path
from qresearch.store.claims import take
print(take(Path(sys.argv[1]), sys.argv[2]), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def held():
    """A function that has a cell claimed by another process, which it returns."""
    running = []

    def hold(job):
        command = [sys.executable, "-c", HOLD, str(job.folder.parent), job.name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes))
        assert running[-1].stdout.readline() == "True\n"
        return running[-1]

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def test_a_cell_that_another_process_works_at_is_left_to_it(job, held):
    one, other = job("weight.bits=3"), job("weight.bits=4")
    held(one)
    assert [record and record["status"] for record in settle([one, other])] == [None, "finished"]
    assert {cell for _, cell in events(one.folder.parent)} == {other.name} and not one.folder.exists()


def test_who_waits_gets_what_the_other_process_found(job, held, monkeypatch):
    one = job("weight.bits=3")
    (record,) = settle([one])
    hidden = (one.folder / "result.json").rename(one.folder / "hidden")
    process = held(one)

    def taking(folder, digest, *, wait=False):
        assert wait and not take(folder, digest)
        hidden.rename(one.folder / "result.json")  # the other process writes its result, and ends
        process.kill()
        return take(folder, digest, wait=wait)

    monkeypatch.setattr(qresearch.execute, "take", taking)
    assert settle([one], wait=True) == [record]
    assert [event for event, _ in events(one.folder.parent)] == ["started", "finished", "kept"]


def test_claims_are_given_back_whatever_happens(job, held, monkeypatch):
    one = job("weight.bits=3")
    monkeypatch.setattr(qresearch.execute, "run_cells", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        settle([one])
    held(one).kill()  # which another process can only have if it is free
    assert take(one.folder.parent, one.name, wait=True)
    release(one.folder.parent, one.name)


TRACKER = """
import dataclasses
import json

@dataclasses.dataclass(frozen=True)
class Listener:
    name: str = "heard"

    def start(self, *, folder, name, group, config):
        self.told(folder / "heard.jsonl", ["start", name, group, config["weight"]["bits"]])

    def told(self, path, words):
        object.__setattr__(self, "path", path)
        with open(path, "a") as stream:
            stream.write(json.dumps(words) + "\\n")

    def log(self, step, metrics):
        self.told(self.path, ["log", step, dict(metrics)])

    def finish(self, record):
        self.told(self.path, ["finish", record["metrics"]["top1"], self.path.with_name("result.json").is_file()])
"""


@pytest.mark.parametrize("count", [1, 3])
def test_the_tracker_of_each_cell_hears_its_own(count, job, tmp_path, monkeypatch):
    """Side by side, too."""
    (tmp_path / "listener.py").write_text(TRACKER)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = ["method=qat", "tracker._target_=listener.Listener", "+tracker.name=mine"]
    jobs = [job(*chosen, f"weight.bits={bits}", f"optim.learning_rate={bits / 100}") for bits in (2, 3, 4)[:count]]
    records = settle(jobs)
    assert [record["metrics"]["stacked"] for record in records] == [count] * count
    for one, record in zip(jobs, records, strict=True):
        first, *logged, last = map(json.loads, (one.folder / "heard.jsonl").read_text().splitlines())
        assert first == ["start", one.name, "sweep", record["config"]["weight"]["bits"]]
        curve = json.loads((one.folder / "curves.json").read_text())["qat"]
        logged = [words for words in logged if "qat/loss" in words[2]]
        assert [step for _, step, _ in logged] == [point["step"] for point in curve] == list(range(1, 24))
        assert [metrics["qat/loss"] for *_, metrics in logged] == [point["loss"] for point in curve]
        assert last == ["finish", record["metrics"]["top1"], True]
    assert len({record["metrics"]["loss"] for record in records}) == count


def test_cells_say_how_many_really_went_side_by_side(job):
    """Two of these three train for the same time."""
    jobs = [job("method=qat", f"optim.epochs={epochs}", f"seed={seed}") for epochs, seed in ((1, 0), (2, 0), (1, 1))]
    assert [record["metrics"]["stacked"] for record in settle(jobs)] == [2, 1, 2]


def test_the_programs_are_counted_once(job):
    jobs = [job(f"weight.bits={bits}", "observer@weight.observer=mse") for bits in (2, 3, 4)]
    first, *others = settle(jobs)
    assert first["programs"]["evaluate_batch_together"] == first["programs"]["measure_errors_together"] == 1
    assert first["metrics"]["programs"] == sum(first["programs"].values())
    assert all(other["programs"] == {} and other["metrics"]["programs"] == 0 for other in others)


def test_a_single_run_raises_what_it_records(composer, runs, tmp_path):
    given = composer.compose([*TINY, f"runs_dir={runs}", "weight.bits=17"])
    with pytest.raises(ValueError, match=r"bits=17 is outside 1\.\.16") as caught:
        run(given, tmp_path / "one", overrides=["weight.bits=17"])
    record = read_record(tmp_path / "one" / "result.json")
    assert (record["status"], record["message"]) == ("failed", str(caught.value))
    assert record["overrides"] == ["weight.bits=17"] and record["config"]["weight"]["bits"] == 17
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["result.json"]  # no journal, no claims


def test_a_mistake_of_ours_shows_where_it_lies(job, monkeypatch):
    """In the record of its cell; the cells beside it go on."""
    real = qresearch.cells.compute._describe

    def describe(work, *arguments):
        return 1 // 0 if work.cell.cfg.seed == 1 else real(work, *arguments)

    monkeypatch.setattr("qresearch.cells.compute._describe", describe)
    fine, broken = settle([job("seed=0"), job("seed=1")])
    assert fine["status"] == "finished" and broken["status"] == "failed"
    assert broken["message"].startswith("Traceback") and "ZeroDivisionError" in broken["message"]
