"""Shared stages: made once for all processes, found by what they were made from, and remembered for a while."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qresearch.store import shared as module
from qresearch.store.shared import Shared

ROOT = Path(__file__).parents[2]
# Makes a stage, which takes a while, and says whether it made it and what it has.
MAKE = """
import sys, time
from pathlib import Path
from qresearch.store.shared import Shared
made = []
def make():
    made.append(1)
    time.sleep(0.5)
    return sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(Shared(Path(sys.argv[1])).json("kind", {"seed": 0}, make), len(made), flush=True)
"""


@pytest.fixture
def made():
    """A function that makes a value, and the list of those it has made."""
    values = []

    def make(value):
        def call():
            values.append(value)
            return value

        return call

    return make, values


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_made_once_and_found_again_by_the_next(made, tmp_path):
    make, values = made
    first = Shared(tmp_path)
    assert [first.json("kind", {"seed": 0}, make([1, {"a": None}])) for _ in range(3)] == [[1, {"a": None}]] * 3
    assert Shared(tmp_path).json("kind", {"seed": 0}, make("other")) == [1, {"a": None}] and len(values) == 1
    claims, value = files(tmp_path)
    assert claims == "kind/.claims" and json.loads((tmp_path / value).read_text()) == [1, {"a": None}]


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 0, "more": None}, {"seed": "0"}, [{"seed": 0}], {}])
def test_other_ingredients_are_another_stage(other, made, tmp_path):
    make, values = made
    shared = Shared(tmp_path)
    assert shared.json("kind", {"seed": 0}, make("first")) == "first"
    assert shared.json("kind", other, make("second")) == "second"
    assert shared.json("kind", {"seed": 0}, make("third")) == "first" and values == ["first", "second"]


def test_the_order_of_the_keys_is_nothing(made, tmp_path):
    make, values = made
    assert Shared(tmp_path).json("kind", {"a": 1, "b": 2}, make("first")) == "first"
    assert Shared(tmp_path).json("kind", {"b": 2, "a": 1}, make("second")) == "first" and values == ["first"]


def test_kinds_are_apart(made, tmp_path):
    make, values = made
    shared = Shared(tmp_path)
    assert (shared.json("one", {}, make(1)), shared.json("two", {}, make(2))) == (1, 2) and values == [1, 2]


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    np.array(1.5, np.float32),
    np.zeros((0, 2), np.int32),
    np.array([True, False]),
    np.array([2**31 - 1, -(2**31)], np.int32),
]


def test_arrays_come_back_to_the_bit(tmp_path):
    made = Shared(tmp_path).arrays("kind", {}, lambda: ARRAYS)
    found = Shared(tmp_path).arrays("kind", {}, lambda: pytest.fail("it was there"))
    for given, first, again in zip(ARRAYS, made, found, strict=True):
        np.testing.assert_array_equal(first, given, strict=True)
        np.testing.assert_array_equal(again, np.asarray(given), strict=True)


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    Shared(tmp_path).arrays("kind", {}, lambda: [np.array(n) for n in range(25)])
    assert Shared(tmp_path).arrays("kind", {}, list) == [*range(25)]


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04", b"\xff\xfe\x00"], ids=repr)
def test_what_is_not_whole_is_made_again(content, made, tmp_path):
    """Nothing half-written is ever left here by ourselves; a disk may have lost its end."""
    make, values = made
    Shared(tmp_path).json("kind", {}, make([3]))
    Shared(tmp_path).arrays("kind", {}, make([np.array(3)]))
    for path in tmp_path.glob("kind/*.*"):
        path.write_bytes(content)
    assert Shared(tmp_path).json("kind", {}, make([4])) == [4]
    assert Shared(tmp_path).arrays("kind", {}, make([np.array(4)])) == [4]
    assert values == [[3], [3], [4], [4]]
    assert Shared(tmp_path).json("kind", {}, make([5])) == [4]
    assert Shared(tmp_path).arrays("kind", {}, make([np.array(5)])) == [4]


def test_a_stage_that_could_not_be_made_leaves_the_way_free(made, tmp_path):
    make, _ = made
    shared = Shared(tmp_path)
    with pytest.raises(ZeroDivisionError):
        shared.json("kind", {}, lambda: 1 // 0)
    assert files(tmp_path) == ["kind/.claims"]
    assert shared.json("kind", {}, make("second")) == "second"


def test_a_process_remembers_the_last_ones(made, tmp_path, monkeypatch):
    make, values = made
    monkeypatch.setattr(module, "REMEMBERED", 2)
    shared, loaded = Shared(tmp_path), []

    def get(name):
        options = {"load": lambda path: loaded.append(name), "save": lambda path, value: None}
        return shared.get("kind", name, make=make(name), **options)

    for name in ("a", "b", "a", "c", "a", "b"):  # c puts b out, which was not asked for as lately as a
        assert get(name) == name
    assert values == ["a", "b", "c", "b"] and loaded == [name for name in values for _ in range(2)]
    assert len(shared.memory) == 2


def test_of_two_processes_one_makes_it_and_the_other_waits(tmp_path):
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([*command, name], env=environment, **pipes) for name in "ab"]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split() for process in both]
    (maker,) = (name for name, count in said if count == "1")
    assert sorted(said, key=lambda words: words[1]) == [[maker, "0"], [maker, "1"]]


def test_of_two_processes_the_other_makes_it_when_the_first_is_killed(tmp_path):
    command = [sys.executable, "-c", MAKE.replace("time.sleep(0.5)", "time.sleep(60)"), str(tmp_path), "never"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        while not (tmp_path / "kind" / ".claims").exists():
            assert process.poll() is None
        process.kill()
    assert Shared(tmp_path).json("kind", {"seed": 0}, lambda: "here") == "here"
