"""The journal of a sweep: every line whole, whoever writes, and what was cut off passed over."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from qresearch.store.journal import FILE, Follower, note

ROOT = Path(__file__).parents[2]
WRITE = """
import sys
from pathlib import Path
from qresearch.store.journal import note
for number in range(300):
    note(Path(sys.argv[1]), "finished", f"{number:012x}", writer=sys.argv[2], text="x" * (number * 37 % 20_000))
"""


def read(folder):
    return Follower(folder, from_start=True).read()


def test_an_event_is_a_line(tmp_path):
    before = time.time()
    note(tmp_path, "finished", "0123456789ab", top1=91.5, message="two\nlines", overrides=["seed=ü"])
    (line,) = (tmp_path / FILE).read_text().splitlines()
    (event,) = read(tmp_path)
    assert json.loads(line) == event
    assert before - 0.001 <= event.pop("time") <= time.time() + 0.001
    assert event == {
        "event": "finished",
        "cell": "0123456789ab",
        "process": os.getpid(),
        "top1": 91.5,
        "message": "two\nlines",
        "overrides": ["seed=ü"],
    }


def test_a_follower_reads_what_is_new(tmp_path):
    whole, late = Follower(tmp_path, from_start=True), Follower(tmp_path)
    assert whole.read() == [] and not (tmp_path / FILE).exists()
    note(tmp_path, "started", "a")
    after = Follower(tmp_path)
    note(tmp_path, "finished", "a")
    for follower, events in ((whole, ["started", "finished"]), (late, ["started", "finished"]), (after, ["finished"])):
        assert [event["event"] for event in follower.read()] == events
        assert follower.read() == []
    note(tmp_path, "kept", "b")
    assert [[event["cell"] for event in follower.read()] for follower in (whole, late, after)] == [["b"]] * 3


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    follower = Follower(tmp_path)
    note(tmp_path, "started", "a")
    line = json.dumps({"event": "finished", "cell": "a"}).encode() + b"\n"
    with open(tmp_path / FILE, "ab") as stream:
        stream.write(line[:9])
        stream.flush()
        assert [event["event"] for event in follower.read()] == ["started"]
        stream.write(line[9:])
    assert [event["event"] for event in follower.read()] == ["finished"]


@pytest.mark.parametrize(
    "broken",
    [b'{"event": "finished", "ce', b"\x00\x00\x00", b"\xff\xfe", b"[1, 2]", b"3", b'{"event": "finished"}', b""],
    ids=repr,
)
def test_lines_that_say_nothing_are_passed_over(broken, tmp_path):
    note(tmp_path, "started", "a")
    with open(tmp_path / FILE, "ab") as stream:
        stream.write(broken + b"\n")
    note(tmp_path, "finished", "a")
    assert [event["event"] for event in read(tmp_path)] == ["started", "finished"]


def test_a_torn_last_line_takes_no_event_with_it(tmp_path):
    """A process was killed, or a disk was full, in the middle of a line; the next one writes on."""
    note(tmp_path, "started", "a")
    with open(tmp_path / FILE, "ab") as stream:
        stream.write(b'{"event": "finished", "cell": "a", "ti')
    note(tmp_path, "kept", "b")
    note(tmp_path, "kept", "c")
    assert [(event["event"], event["cell"]) for event in read(tmp_path)] == [
        ("started", "a"),
        ("kept", "b"),
        ("kept", "c"),
    ]


def test_lines_of_several_processes_do_not_mix(tmp_path):
    follower, seen = Follower(tmp_path), []
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], env=os.environ | {"PYTHONPATH": str(ROOT)}) for name in "abc"]
    while any(writer.poll() is None for writer in writers):
        seen += follower.read()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    seen += follower.read()
    assert seen == read(tmp_path)
    assert len([line for line in (tmp_path / FILE).read_bytes().splitlines() if line]) == 900
    counts = Counter((event["writer"], event["cell"]) for event in seen)
    assert len(counts) == 900 and set(counts.values()) == {1}
    assert all(len(event["text"]) == int(event["cell"], 16) * 37 % 20_000 for event in seen)
