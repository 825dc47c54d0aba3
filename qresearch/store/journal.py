"""The journal of a sweep: a line for whatever happens to a cell, by any of the processes that work at it.

It is there to be watched while the sweep goes, and no result depends on it: the records are the truth. A line is
appended in one write, so lines of several processes do not mix; one that was cut off is passed over.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from qresearch.store.full_disk import naming_a_full_disk

FILE = "journal.jsonl"


def note(folder: Path, event: str, cell: str, **details: Any) -> None:
    """Append an event ("started", "kept", or the status of a record) of the cell with this hash."""
    line = json.dumps({"event": event, "cell": cell, "time": round(time.time(), 3), "process": os.getpid(), **details})
    with naming_a_full_disk(folder / FILE), open(folder / FILE, "ab+", buffering=0) as stream:
        stream.seek(max(stream.seek(0, os.SEEK_END) - 1, 0))
        torn = stream.read(1) not in (b"\n", b"")  # another was killed in the middle of its line, or is writing it
        stream.write(b"\n" * torn + f"{line}\n".encode())


class Follower:
    """Reads the events that were appended since it was made, or since it was last asked."""

    def __init__(self, folder: Path, *, from_start: bool = False):
        self.path = folder / FILE
        self.place = 0 if from_start or not self.path.exists() else self.path.stat().st_size

    def read(self) -> list[dict[str, Any]]:
        """The new events, in order."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as stream:
            stream.seek(self.place)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.place += len(whole)
        return [event for line in whole.splitlines() if (event := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"event", "cell"} <= event.keys() else None
