"""The evidence: one `result.json` for each run, written last and by an atomic rename. All else can be made
again from it.

Its units: `top1` in percent of the `test_images`, `loss` in nats, `sqnr_*_db` in decibels, `size_bytes*` and
`bytes_moved` in bytes, `energy_*_uj_estimate` in microjoules for one image, `seconds` of wall clock. In
`curves.json` beside it `accuracy` is a share from 0 to 1.
"""

import datetime
import functools
import json
import logging
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from qresearch.replacing import replacing
from qresearch.store.full_disk import naming_a_full_disk

SCHEMA = 2
READ = (1, 2)
NAME = "result.json"
STATUSES = ("finished", "diverged", "failed")
KEYS = {"config": dict, "metrics": dict, "environment": dict}  # of every record, with their types
COMPUTED = {"config_hash": str, "group": str, "layers": list}  # of every record that has not failed
FILLED = {"message": (str, type(None)), "overrides": list, "finished_at": str}  # made up for where they lack
PACKAGES = ("qresearch", "jax", "jaxlib", "flax", "optax", "numpy", "hydra-core", "wandb")
logger = logging.getLogger(__name__)


class RecordError(ValueError):
    """A `result.json` that cannot be read; the message says which, why, and the way out."""

    what = ""  # the message without the way out, for who has one


def write_json(path: Path, content: Any) -> None:
    """As `write_bytes`, for JSON values. Raises ValueError for NaN and infinities, which JSON does not know."""
    write_bytes(path, json.dumps(content, indent=1, allow_nan=False).encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the old file or the whole new one.

    Raises StoreError where the disk is full.
    """
    with naming_a_full_disk(path), replacing(path) as stream:
        stream.write(content)


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file, as one of schema 2: what schema 1 lacks is filled in (`metrics.test_images` apart).

    Raises RecordError for one that is damaged, is no record, or has a schema that this version does not read.
    Nothing is deleted.
    """
    try:
        modified = path.stat().st_mtime
        record = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _error(path, f"cannot be read ({error})") from error
    _check(path, record)
    record.setdefault("message", None)
    record.setdefault("overrides", [])
    record.setdefault("finished_at", datetime.datetime.fromtimestamp(modified, datetime.UTC).isoformat())
    if record["status"] != "failed":
        record["metrics"].setdefault("stacked", 1)
    return record


def read_records(folder: Path, bad: Callable[[str], Any] | None = None) -> list[dict[str, Any]]:
    """The records of all finished runs under `folder`, in the order of their folders' names (numbers as numbers).

    One that cannot be read is skipped and its message given to `bad`, by default a warning in the log.
    """
    records, bad = [], bad or logger.warning
    for path in sorted(record_paths(folder, bad), key=natural_order):
        try:
            records.append(read_record(path) | {"path": str(path)})
        except FileNotFoundError:
            continue  # gone since the folder was listed
        except RecordError as error:
            bad(str(error))
    return records


def record_paths(folder: Path, bad: Callable[[str], Any]) -> Iterator[Path]:
    """Every `result.json` under `folder`, in no order; not in hidden folders nor in W&B's, nor behind links.

    `bad` is told of folders that cannot be listed.
    """

    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # gone since its own folder was listed
            bad(f"{error.filename} cannot be listed ({error.strerror}): the records in it are left out.")

    for place, folders, files in os.walk(folder, onerror=told):
        inside_wandb = os.path.basename(place) == "wandb"
        folders[:] = [name for name in folders if not _closed(name, inside_wandb)]
        if NAME in files:
            yield Path(place, NAME)


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts paths by the names of their folders, numbers as numbers."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in path.parts]


def environment() -> dict[str, Any]:
    """Where a run ran: versions, device, and the state of the code when this process first asked."""
    return {**_machine(), "versions": dict(_versions()), **_git(Path(__file__).parent)}


def code(environment: dict[str, Any]) -> str:
    """The code that a record comes from, in a word: its commit, or the version that was installed."""
    commit = environment.get("git_commit")
    if commit is None:
        return str(environment.get("versions", {}).get("qresearch"))
    return f"{commit[:7]}{' with changes' if environment.get('git_dirty') else ''}"


def _closed(name: str, inside_wandb: bool) -> bool:
    """A folder that holds no records: hidden, or a run of W&B (a sweep may be called `wandb`)."""
    return name.startswith(".") or (inside_wandb and name.startswith(("run-", "offline-run-")))


def _check(path: Path, record: Any) -> None:
    if not isinstance(record, dict) or "schema" not in record:
        raise _error(path, "is no record of qresearch: it has no schema")
    if type(record["schema"]) is not int or record["schema"] not in READ:
        known = f"has schema {record['schema']!r}, and this version reads {' and '.join(map(str, READ))}"
        raise _error(path, known, "read it with the version of qresearch that wrote it")
    if record.get("status") not in STATUSES:
        raise _error(path, f"has the status {record.get('status')!r}, which is none of {', '.join(STATUSES)}")
    needed = KEYS if record["status"] == "failed" else KEYS | COMPUTED
    given = {key: kind for key, kind in (COMPUTED | FILLED).items() if key in record}
    wrong = [key for key, kind in (needed | given).items() if not isinstance(record.get(key), kind)]
    if wrong:
        raise _error(path, f"lacks {', '.join(wrong)}, or has something there that no record has")
    unsound = [name for name, value in record["metrics"].items() if not _is_number(value)]
    if unsound:
        raise _error(path, f"has metrics that are no numbers: {', '.join(unsound)}")
    if not all(_is_row(row) for row in record.get("layers", ())):
        raise _error(path, "has rows of layers without the name of a layer and a tensor")


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("layer"), str) and isinstance(row.get("tensor"), str)


def _error(path: Path, what: str, instead: str = "mend it from a copy") -> RecordError:
    what = f"{os.fsencode(path).decode(errors='backslashreplace')} {what}"
    error = RecordError(f"{what}. It stays as it is; {instead}, or move it away and run its cell again.")
    error.what = f"{what}."
    return error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@functools.cache
def _machine() -> dict[str, Any]:
    import jax  # late: who only reads records need not wait for it

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "backend": jax.default_backend(),
        "cpus": os.cpu_count(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := _version(name))}


# What a cell is computed with, from the root of the checkout; a report that lies beside it changes no number.
SOURCES = (":/qresearch", ":/configs", ":/hydra_plugins", ":/pyproject.toml", ":/requirements.lock")


@functools.cache
def _git(folder: Path) -> dict[str, Any]:
    """The commit of the source in `folder`, and whether what cells are computed with has been changed since; None
    outside a checkout.
    """
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        return {"git_commit": commit, "git_dirty": bool(_run_git(folder, "status", "--porcelain", "--", *SOURCES))}
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}


def _run_git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
