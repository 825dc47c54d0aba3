"""A full disk in words: what was not written, how much is free, and what to do."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # no space left, or no more of it for this user


class StoreError(OSError):
    """Something could not be kept or found; the message says what, and the way out."""


@contextlib.contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Within the block, a disk that is full raises StoreError about `path`; any other error passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk(path, error) from error


def full_disk(path: Path, error: Exception) -> StoreError:
    """The error for `path`, which could not be written because of `error`."""
    why = error.strerror if isinstance(error, OSError) else error
    told = StoreError(
        f"{path} was not written: {why}, {_free(path)} free there. What was kept before is whole. Free some space, "
        "or name a folder on another disk, and give the same command again."
    )
    told.errno = error.errno if isinstance(error, OSError) else errno.ENOSPC
    return told


def _free(path: Path) -> str:
    """The free space of the disk that holds `path`, in words."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB"
