"""A folder of runs as a live page is told of it: everything once, then what is new.

The index is refreshed in the background, at most every `EVERY_S` and for at most a fifth of the time; questions are
answered from memory.
"""

import datetime
import json
import secrets
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from qresearch.reports.report_curves import read_curves
from qresearch.reports.report_data import RunTable, document
from qresearch.store.index import INDEX, collect, indexed

EVERY_S = 3.0
REST = 4  # times as long as the last refresh took


class State(NamedTuple):
    """What is known at one moment; `rows` are JSON by path, `changed` the version in which each was last another."""

    version: int
    head: dict[str, Any]
    rows: dict[str, str]
    changed: dict[str, int]
    removed: dict[str, int]
    bad: list[str]


class LiveFolder:
    """Answers about the records of a folder; `epoch` names this source, whose versions no other one's are."""

    def __init__(self, folder: Path):
        self.folder, self.epoch = folder, secrets.token_hex(4)
        self.about = {"title": folder.resolve().name, "folder": str(folder), "live": True}
        self.trouble: str | None = None  # why the last refresh failed
        self._table, self._stamp = RunTable(), None
        self._state: State | None = None  # replaced, never changed, so that an answer sees one moment
        self._all = b""

    def watch(self) -> threading.Thread:
        """Refresh from now on, in a thread that ends with the process."""
        thread = threading.Thread(target=self._refresh_again, name="index", daemon=True)
        thread.start()
        return thread

    def refresh(self, *, anyway: bool = False) -> None:
        """Collect the records, and read them where something has changed or `anyway`."""
        found = collect(self.folder)
        stamp = self._index_stamp()
        before = self._state
        known = before is not None and before.bad == found.bad and stamp == self._stamp
        if not known or found.new or found.removed or anyway:
            self._table.update(indexed(self.folder))
            if before is None or before.rows != self._table.rows or before.bad != found.bad:
                state = self._next(before, found.bad)
                self._all = self._document(state, 0)  # first, as the state says that it is there
                self._state = state
            self._stamp = stamp

    def answer(self, epoch: str, since: int) -> bytes:
        """The document for a page that knows version `since` of the source `epoch`."""
        state = self._state
        told = {"epoch": self.epoch, "trouble": self.trouble, "reading": state is None}
        if state is None:
            return document(told | {"version": 0}, []).encode()
        if epoch == self.epoch and since == state.version:
            return document(told | {"version": since}, []).encode()
        if epoch != self.epoch or not 0 < since < state.version:
            return self._all
        return self._document(state, since)

    def curves(self, path: str) -> bytes | None:
        """The curves of the run whose record lies at `path`; None for one that is not known."""
        state = self._state
        if state is None or path not in state.rows:
            return None
        return json.dumps(read_curves(self.folder / path), separators=(",", ":")).encode()

    def _next(self, before: State | None, bad: list[str]) -> State:
        rows, version = self._table.rows, 1 if before is None else before.version + 1
        old = {} if before is None else before.rows
        changed = {path: version for path, row in rows.items() if old.get(path) != row}
        removed = {path: version for path in old if path not in rows}
        if before is not None:
            changed = {path: before.changed[path] for path in rows if path not in changed} | changed
            removed = {path: at for path, at in before.removed.items() if path not in rows} | removed
        head = json.loads(json.dumps(self._table.head))  # the table goes on numbering
        return State(version, head, rows, changed, removed, bad)

    def _document(self, state: State, since: int) -> bytes:
        about = {
            "epoch": self.epoch,
            "version": state.version,
            "reading": False,
            "trouble": None,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "whole": since == 0,
            "bad": state.bad,
            "head": state.head,
            "removed": [path for path, version in state.removed.items() if version > since],
        }
        rows = (row for path, row in state.rows.items() if state.changed[path] > since)
        return document(about, rows).encode()

    def _index_stamp(self) -> list[tuple[int, int]]:
        """Changes when another process has collected the folder."""
        paths = (self.folder / INDEX, self.folder / f"{INDEX}-wal")
        states = [path.stat() for path in paths if path.exists()]
        return [(state.st_mtime_ns, state.st_size) for state in states]

    def _refresh_again(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self.refresh()
                self.trouble = None
            except (OSError, ValueError, sqlite3.Error) as error:
                self.trouble = str(error)
            time.sleep(max(EVERY_S, REST * (time.monotonic() - started)))
