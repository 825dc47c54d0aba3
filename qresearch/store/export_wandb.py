"""Past records as runs of W&B, with their curves: into its own offline folders, or to the server.

The name of a run says what it is a run of: the hash of its config, and of what came out. Exporting a record again
is therefore the same run: here its folder takes the place of the one before, and on the server the upload does.
A run that was tracked while it went has a name of W&B's own; uploading both shows it twice.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qresearch.store.full_disk import StoreError
from qresearch.store.record import read_records
from qresearch.store.wandb_run import log_point, log_record, open_run, start_service

INIT_S, FINISH_S = 20.0, 120.0  # how long the server may take to open and to close a run


class Exported(NamedTuple):
    """How many runs were written; those that are the same run as another; those that W&B tracked; messages."""

    runs: int
    copies: int
    tracked: int
    bad: list[str]


def export_wandb(
    folder: Path,
    *,
    project: str = "qresearch",
    entity: str | None = None,
    online: bool = False,
    listen: Callable[[int, int], Any] = lambda done, total: None,
) -> Exported:
    """Write every record under `folder` into `folder/wandb`, and upload it where `online`.

    The cells of a sweep share its folder's name as their group. Raises StoreError where there is nothing to export,
    and where W&B fails or cannot be reached; the runs before that are exported.
    """
    bad: list[str] = []
    records = read_records(folder, bad.append)
    runs = {run_id(record): record for record in records}
    if not runs:
        raise StoreError(f"{folder}: there is no record to export below it ({len(bad)} unreadable).")
    wandb, _ = start_service(folder.absolute())
    done, mode = 0, "online" if online else "offline"
    try:
        if online and not wandb.login(prompt=False, verify=False):
            raise StoreError("W&B has no API key here. `wandb login` stores one; without --online none is needed.")
        for done, (name, record) in enumerate(runs.items()):
            listen(done, len(runs))
            bad += _export(name, record, folder.absolute(), mode=mode, project=project, entity=entity)
    except Exception as error:
        wandb.teardown(exit_code=1)
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{_reason(error)}: {done} of {len(runs)} runs are exported. {_remedy(online)}") from error
    wandb.teardown()
    tracked = sum(any(Path(record["path"]).parent.glob("wandb/*run-*-????????")) for record in runs.values())
    return Exported(len(runs), len(records) - len(runs), tracked, bad)


def run_id(record: dict[str, Any]) -> str:
    """A name of this run for W&B: equal wherever its folder lies and whenever it is asked for."""
    config = json.dumps(record["config"], sort_keys=True)
    config_hash = record.get("config_hash") or hashlib.sha256(config.encode()).hexdigest()[:12]
    outcome = json.dumps([record["status"], record["message"], record["metrics"]], sort_keys=True)
    return f"{config_hash}-{hashlib.sha256(outcome.encode()).hexdigest()[:12]}"


def sweep_name(path: Path) -> str | None:
    """The name of the sweep that a record is a cell of; None for a run of its own."""
    folder = path.absolute().parent
    is_cell = re.fullmatch(r"[0-9a-f]{12}|\d+", folder.name) or (folder.parent / "multirun.yaml").is_file()
    return folder.parent.name if is_cell else None


def _export(name: str, record: dict[str, Any], root: Path, **where: Any) -> list[str]:
    """Write one run; returns what is wrong with its curves."""
    path = Path(record["path"])
    older = list((root / "wandb").glob(f"*run-*-{name}*"))  # wandb appends -1 to the second of a second
    points, wrong = _points(path.with_name("curves.json"))
    run = open_run(
        folder=root,
        init_timeout_s=INIT_S,
        finish_timeout_s=FINISH_S,
        id=name,
        name=record.get("config_hash") or path.parent.name,
        group=sweep_name(path),
        config=record["config"],
        **where,
    )
    for step, numbers in points:
        log_point(run, step, numbers)
    log_record(run, record)
    run.finish(exit_code=int(record["status"] == "failed"))
    for place in older:
        if place != Path(run.dir).parent:
            shutil.rmtree(place)
    return wrong


def _points(path: Path) -> tuple[list[tuple[int, dict[str, float]]], list[str]]:
    """The points of a file of curves, stage after stage and under the tracker's names, and what is wrong with it."""
    if not path.is_file():
        return [], []
    try:
        points = []
        for stage, curve in json.loads(path.read_bytes()).items():
            for point in curve:
                named = {f"{stage}/{name}": float(value) for name, value in point.items() if name != "step"}
                points.append((int(point["step"]), named))
        return points, []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return [], [f"{path} cannot be read ({error}): its run is exported without curves."]


def _reason(error: Exception) -> str:
    return f"W&B failed ({type(error).__name__}: {error}".splitlines()[0] + ")"


def _remedy(online: bool) -> str:
    if online:
        return "See to the network, or leave out --online and upload later with `wandb sync`."
    return "The same command begins anew."
