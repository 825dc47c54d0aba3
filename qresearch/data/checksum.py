"""Open a data file only if it is, byte for byte, the file it should be."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qresearch.data.error import DataError


@contextlib.contextmanager
def open_verified(path: Path, sha256: str) -> Iterator[BinaryIO]:
    """The file's bytes, after their checksum was compared; a corrupt or truncated file is an error."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256:
            raise DataError(
                f"{path} ({stream.tell()} bytes) is corrupt or truncated: "
                f"its sha256 is {found}, expected {sha256}. Delete it and fetch it again."
            )
        stream.seek(0)
        yield stream
