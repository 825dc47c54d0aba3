"""The evidence: one `result.json` for each run, written last and by an atomic rename. All else can be made
again from it.
"""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from qresearch.replacing import replacing

SCHEMA = 1
PACKAGES = ("qresearch", "jax", "jaxlib", "flax", "optax", "numpy", "hydra-core", "wandb")


def write_json(path: Path, content: Any) -> None:
    """Write `content` so that a reader sees the old file or the whole new one.

    Raises ValueError for NaN and infinities, which JSON does not know.
    """
    with replacing(path) as stream:
        stream.write(json.dumps(content, indent=1, allow_nan=False).encode())


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished runs under `folder`, in the order of their folders' names (numbers as numbers)."""
    paths = sorted(folder.glob("**/result.json"), key=lambda path: [_natural(part) for part in path.parts])
    return [json.loads(path.read_text()) | {"path": str(path)} for path in paths]


def environment() -> dict[str, Any]:
    """Where a run ran: versions, device, and the state of the code."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "device": devices[0].device_kind,
        "devices": len(devices),
        "backend": jax.default_backend(),
        "cpus": os.cpu_count(),
        **_git(),
    }


def _git() -> dict[str, Any]:
    """The commit of the source that is running, and whether it has been changed since; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        return {"git_commit": commit, "git_dirty": bool(_run_git(folder, "status", "--porcelain"))}
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


def _natural(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)
