"""The local index over the records of a folder: SQLite, made from the `result.json` files and never the other way.

One row for each record. The columns overrides, config, metrics, layers and environment are JSON, so that a shell can
ask too: `sqlite3 runs/index.sqlite "select path, metrics->>'top1' from records"`.

The journal is a write-ahead log, which lets any number read while one writes. On a network disk such a log is unsafe;
where Linux says that the folder lies on one (`/proc/self/mountinfo`), an ordinary journal is kept instead, slower
and with the locks of that disk. Elsewhere this cannot be told: keep the runs of a Mac on a disk of its own.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qresearch.store.full_disk import StoreError, full_disk
from qresearch.store.record import RecordError, natural_order, read_record, record_paths

INDEX = "index.sqlite"
VERSION = 1
TEXTS = ("status", "message", "group", "config_hash", "finished_at")
PARTS = ("overrides", "config", "metrics", "layers", "environment")  # kept as JSON
COLUMNS = (*TEXTS, *PARTS)
SHARES = ("sqnr_db", "mse_clip", "mse_round")  # of the rows of a layer
MACHINE = ("git_commit", "git_dirty", "device", "versions")  # of the environment
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs"}
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)  # no room for rows, nor for the log's own index
MOUNTS = Path("/proc/self/mountinfo")
WAIT_S = 600.0  # for another process that collects
BUSY_S = 60.0  # for whatever else holds the file
logger = logging.getLogger(__name__)


class Collected(NamedTuple):
    """What `collect` found: records that are new or have changed, the same as before, gone; and messages."""

    new: int
    kept: int
    removed: int
    bad: list[str]  # of the files that cannot be read


def collect(folder: Path) -> Collected:
    """Make or refresh `folder/index.sqlite` from the records under `folder`; a second time finds nothing new.

    A record is read where its time or size is not that in the index. One that cannot be read has no row, is told of
    each time, and is taken in once it is mended. Several processes may collect at once: they take turns, and one that
    is killed leaves the index as it was. An index that is damaged or of another version is made anew.
    Raises StoreError where the index cannot be written.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: there is no such folder. Name the one in which the runs lie.")
    path = folder / INDEX
    try:
        with _alone(path), contextlib.closing(_sound(path)) as index:
            index.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows: they are taken in again
            index.execute("BEGIN IMMEDIATE")
            collected = _refresh(index, folder)
            index.execute("COMMIT")
            return collected
    except sqlite3.Error as error:
        raise _unwritten(path, error) from error


def indexed(folder: Path) -> list[dict[str, Any]]:
    """The rows of `folder`'s index, as `collect` left them, in the order of the folders' names.

    Each has `path` (of the record, from `folder`), status, message, group, config_hash, finished_at, overrides,
    `config` (flat: "weight.bits"), metrics, `layers` (by layer, then tensor) and environment.
    Raises StoreError where there is no index that this version reads.
    """
    path = folder / INDEX
    remedy = f"`qresearch collect {folder}` makes it"
    if not path.is_file():
        raise StoreError(f"{path}: there is no such index; {remedy}.")
    columns = ", ".join(f'"{name}"' for name in ("path", *COLUMNS))
    try:
        with contextlib.closing(_open(path, "rw")) as index:
            if _version(index) != VERSION:
                raise StoreError(f"{path} was made by another version of qresearch; {remedy} anew.")
            rows = [_row(*values) for values in index.execute(f"SELECT {columns} FROM records")]
    except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); {remedy} anew.") from error
    return sorted(rows, key=lambda row: natural_order(Path(row["path"])))


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config as one dict: {"weight": {"bits": 4}} is {"weight.bits": 4}."""
    if not isinstance(config, dict):
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found


def _refresh(index: sqlite3.Connection, folder: Path) -> Collected:
    """Bring the rows to what the files say."""
    known = {path: stamp for path, *stamp in index.execute("SELECT path, mtime_ns, size FROM records")}
    insert = f"INSERT OR REPLACE INTO records VALUES ({', '.join('?' * (3 + len(COLUMNS)))})"
    bad: list[str] = []
    new = kept = 0
    gone = dict(known)
    for path in record_paths(folder, bad.append):
        try:
            name, state = _name(path, folder), path.stat()
            stamp = [state.st_mtime_ns, state.st_size]
            if known.get(name) == stamp:
                kept += 1
            else:
                index.execute(insert, (name, *stamp, *_values(read_record(path))))
                new += 1
            gone.pop(name, None)
        except FileNotFoundError:
            continue  # gone since the folder was listed
        except (OSError, RecordError) as error:
            bad.append(str(error))
    index.executemany("DELETE FROM records WHERE path = ?", [(name,) for name in gone])
    return Collected(new, kept, sum(not (folder / name).exists() for name in gone), sorted(bad))


def _name(path: Path, folder: Path) -> str:
    """The path from the folder, as SQLite keeps it."""
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise RecordError(f"{shown}: this name is not in UTF-8. It stays as it is; rename the folder.") from error
    return name


def _values(record: dict[str, Any]) -> list[str | None]:
    """A record as the columns of its row."""
    layers: dict[str, dict[str, Any]] = {}
    for row in record.get("layers", ()):
        layers.setdefault(row["layer"], {})[row["tensor"]] = {share: row.get(share) for share in SHARES}
    machine = {key: record["environment"].get(key) for key in MACHINE}
    parts = record | {"config": flat(record["config"]), "layers": layers, "environment": machine}
    texts = [_text(record.get(name)) for name in TEXTS]
    return [*texts, *(json.dumps(parts[name], separators=(",", ":")) for name in PARTS)]


def _text(value: str | None) -> str | None:
    """`value` in characters that SQLite takes: half of a surrogate pair, which JSON can hold, is spelt out."""
    return None if value is None else value.encode(errors="backslashreplace").decode()


def _row(path: str, *values: str | None) -> dict[str, Any]:
    named = dict(zip(COLUMNS, values, strict=True))
    return {"path": path} | named | {name: json.loads(named[name] or "null") for name in PARTS}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Within the block this process is the only one that writes the index; the lock ends with the process."""
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        until = time.monotonic() + WAIT_S
        while not _locked(lock, path):
            if time.monotonic() > until:
                raise StoreError(f"{path}: another process has been collecting for {WAIT_S:.0f} s; see what it does.")
            time.sleep(0.02)
        yield
    finally:
        os.close(lock)


def _locked(lock: int, path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{path}: its disk knows no file locks ({error.strerror}); copy the runs to another."
        ) from error
    return True


def _sound(path: Path) -> sqlite3.Connection:
    """The index, made where there is none, and anew where the one at hand is of no use."""
    if path.exists():
        index = _open(path)
        if _is_sound(index):
            return index
        index.close()
        logger.warning("%s is damaged or of another version, and is made anew from the records.", path)
    for suffix in ("-wal", "-shm", "-journal", ""):  # the log first: SQLite would write it into a new index
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    index = _open(path)
    columns = ", ".join(f'"{name}" TEXT' for name in COLUMNS)
    index.execute(f"PRAGMA journal_mode = {'DELETE' if _is_remote(path.parent) else 'WAL'}")
    index.executescript(f"""
        BEGIN;
        CREATE TABLE records (path TEXT PRIMARY KEY, mtime_ns INTEGER, size INTEGER, {columns});
        PRAGMA user_version = {VERSION};
        COMMIT;
    """)
    return index


def _is_sound(index: sqlite3.Connection) -> bool:
    try:
        return _version(index) == VERSION and index.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:
        index.close()
        raise  # locked, or a disk that fails: no reason to throw the index away
    except sqlite3.DatabaseError:
        return False


def _open(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", timeout=BUSY_S, isolation_level=None, uri=True)


def _version(index: sqlite3.Connection) -> int:
    return index.execute("PRAGMA user_version").fetchone()[0]


def _is_remote(folder: Path) -> bool:
    """Whether Linux says that a folder lies on a network disk; False where it cannot be told."""
    if not MOUNTS.is_file():
        return False
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTS.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number:
            kind = after.split()[0]
            return kind in NETWORK or kind.startswith("fuse.")
    return False


def _unwritten(path: Path, error: Exception) -> StoreError:
    if getattr(error, "sqlite_errorcode", None) in FULL:
        return full_disk(path, error)
    return StoreError(f"{path} cannot be written ({error}); the index lies beside the records, so that folder must be.")
