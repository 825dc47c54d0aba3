"""Fetch a file from its public origin: streamed, compared with its checksum, and put in place by a rename."""

import hashlib
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from qresearch.data.error import DataError
from qresearch.replacing import replacing

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 18


def download(url: str, path: Path, sha256: str) -> None:
    """Put the file at `url` at `path`, or raise and leave nothing there."""
    request = urllib.request.Request(url, headers={"User-Agent": "qresearch"})
    digest, received = hashlib.sha256(), 0
    with (
        replacing(path) as stream,
        urllib.request.urlopen(request, timeout=TIMEOUT) as response,
        progress_bar() as progress,
    ):
        total = int(response.headers.get("Content-Length", 0)) or None
        task = progress.add_task(path.name, total=total)
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress.update(task, completed=received)
        if total is not None and received != total:
            raise ConnectionError(f"the connection broke off after {received} of {total} bytes")
        if digest.hexdigest() != sha256:
            raise DataError(f"the {received} bytes that came have sha256 {digest.hexdigest()}, expected {sha256}")


def progress_bar() -> Progress:
    """A bar on standard error, so that a command's output stays its own."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
