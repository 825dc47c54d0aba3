"""Claims: at most one process at a time works at what a digest names.

A claim is a lock on one byte of the file `.claims` in a folder, at the place that the digest says. The system lets go
of it when its process ends in whatever way, so nothing is left behind that could be in the way later. Between machines
it works where the file system carries POSIX locks (NFS 4 and Lustre with `flock` do); elsewhere two machines may
compute the same cell, and the second result replaces an equal first.
"""

import fcntl
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".claims"


def take(folder: Path, digest: str, *, wait: bool = False) -> bool:
    """Claim `digest` (at least 12 hex digits); False where another process has it. With `wait`, True when it ends."""
    mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.lockf(_descriptor(str(folder.absolute())), mode, 1, _place(digest))
    except BlockingIOError:
        return False
    return True


def release(folder: Path, digest: str) -> None:
    """Give a claim back."""
    fcntl.lockf(_descriptor(str(folder.absolute())), fcntl.LOCK_UN, 1, _place(digest))


@contextmanager
def claimed(folder: Path, digest: str) -> Iterator[None]:
    """Within the block this process alone works at `digest`; waits for another one."""
    take(folder, digest, wait=True)
    try:
        yield
    finally:
        release(folder, digest)


@functools.cache
def _descriptor(folder: str) -> int:
    """The file, opened once for the life of the process: closing any descriptor of it would drop all its locks."""
    os.makedirs(folder, exist_ok=True)
    return os.open(os.path.join(folder, FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _place(digest: str) -> int:
    return int(digest[:12], 16)
