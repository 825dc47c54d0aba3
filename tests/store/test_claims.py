"""Claims: one process at a time, and none is left behind by a process that was killed."""

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qresearch.store.claims import FILE, claimed, release, take

ROOT = Path(__file__).parents[2]
DIGEST, OTHER = "0123456789ab", "0123456789ac"
# Claims the digests of its arguments, says so, and releases them when it is told to.
HOLD = """
import sys
from pathlib import Path
from qresearch.store.claims import release, take
folder, *digests = sys.argv[1:]
print([take(Path(folder), digest) for digest in digests], flush=True)
sys.stdin.readline()
for digest in digests:
    release(Path(folder), digest)
print("released", flush=True)
sys.stdin.readline()
"""
WAIT = """
import sys
from pathlib import Path
from qresearch.store.claims import claimed
print("here", flush=True)
with claimed(Path(sys.argv[1]), sys.argv[2]):
    print("claimed", flush=True)
"""


@pytest.fixture
def start():
    """A function that starts a process with code and arguments."""
    running = []

    def started(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes))
        return running[-1]

    yield started
    for process in running:
        process.kill()
        process.communicate()


def line(process):
    return process.stdout.readline().strip()


def tell(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_what_one_process_has_is_refused_to_another(start, tmp_path):
    process = start(HOLD, tmp_path, DIGEST)
    assert line(process) == "[True]"
    assert not take(tmp_path, DIGEST)
    assert take(tmp_path, OTHER)
    tell(process)
    assert line(process) == "released"
    assert take(tmp_path, DIGEST)
    assert line(start(HOLD, tmp_path, DIGEST, OTHER, "ffffffffffff")) == "[False, False, True]"
    for digest in (DIGEST, OTHER):
        release(tmp_path, digest)
    assert line(start(HOLD, tmp_path, DIGEST, OTHER, "ffffffffffff")) == "[True, True, False]"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_leaves_nothing_behind(end, start, tmp_path):
    process = start(HOLD, tmp_path, DIGEST)
    assert line(process) == "[True]" and not take(tmp_path, DIGEST)
    process.send_signal(end)
    process.wait()
    assert take(tmp_path, DIGEST)
    release(tmp_path, DIGEST)
    assert [path.name for path in tmp_path.iterdir()] == [FILE] and (tmp_path / FILE).stat().st_size == 0


def test_who_waits_gets_it_when_it_is_given_back(start, tmp_path):
    assert take(tmp_path, DIGEST)
    process = start(WAIT, tmp_path, DIGEST)
    assert line(process) == "here"
    assert not select.select([process.stdout], [], [], 0.2)[0]  # it waits
    release(tmp_path, DIGEST)
    assert line(process) == "claimed"


def test_who_waits_gets_it_when_the_other_is_killed(start, tmp_path):
    holder = start(HOLD, tmp_path, DIGEST)
    assert line(holder) == "[True]"
    process = start(WAIT, tmp_path, DIGEST)
    assert line(process) == "here" and not select.select([process.stdout], [], [], 0.2)[0]
    holder.kill()
    assert line(process) == "claimed"


def test_within_a_block(start, tmp_path):
    with pytest.raises(KeyError), claimed(tmp_path, DIGEST):
        assert line(start(HOLD, tmp_path, DIGEST)) == "[False]"
        raise KeyError
    assert line(start(HOLD, tmp_path, DIGEST)) == "[True]"


def test_a_process_has_what_it_has_claimed_before(tmp_path):
    assert take(tmp_path, DIGEST) and take(tmp_path, DIGEST) and take(tmp_path, DIGEST, wait=True)


def test_a_folder_is_one_folder_however_it_is_called(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert take(Path("here"), DIGEST)
    assert line(start(HOLD, tmp_path / "here", DIGEST)) == "[False]"
    release(tmp_path / "here", DIGEST)
    assert line(start(HOLD, tmp_path / "here", DIGEST)) == "[True]"


@pytest.mark.parametrize("digest", ["000000000000", "00000000000a", "ffffffffffff", "8000000000001234"])
def test_the_byte_is_the_first_twelve_digits(digest, start, tmp_path):
    """Found by a lock set by hand; the file stays empty, however far the byte lies."""
    assert line(start(HOLD, tmp_path, digest)) == "[True]"
    with open(tmp_path / FILE, "r+b") as file:
        place = int(digest[:12], 16)
        for free in {max(place - 1, 0), place + 1} - {place}:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, free)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    assert (tmp_path / FILE).stat().st_size == 0


def test_a_claim_takes_little_time(tmp_path):
    started = time.process_time()
    for number in range(2000):
        digest = f"{number:012x}"
        assert take(tmp_path, digest)
        release(tmp_path, digest)
    assert time.process_time() - started < 2
