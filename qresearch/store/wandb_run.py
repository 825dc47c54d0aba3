"""A run of W&B that says what a record says, under the names and in the units of `result.json`.

Curves are `STAGE/NAME` over an axis of their own, `step`, which starts again with every training of the run. The
metrics, the status, the config's hash and the time of the end are the run's summary; the anatomy of the error is
its media `layers` and `layers_sqnr_db`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

WORDS = ("status", "message", "config_hash", "finished_at")


def start_service(folder: Path) -> tuple[Any, Any]:
    """wandb, and its session with the service of this process; the service keeps its log in `folder/wandb/logs`."""
    # At exit wandb's telemetry tries for 14 s to report a failed connection over the failed connection.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # By default the log is in the user's home, and where that cannot be written, all over our standard error.
    with _environment(WANDB_CACHE_DIR=os.environ.get("WANDB_CACHE_DIR", str(folder))):
        return wandb, wandb.setup(wandb.Settings(silent=True))


def open_run(
    *,
    mode: Literal["online", "offline"],
    folder: Path,
    project: str,
    entity: str | None,
    init_timeout_s: float,
    finish_timeout_s: float,
    **about: Any,
) -> Any:
    """A new run in `folder/wandb`, beside whatever else this process tracks; `about` is its name, group, config, ..."""
    import wandb

    settings: dict[str, Any] = {"silent": True, "console": "off", "symlink": False, "finish_timeout_raises": True}
    settings |= {"disable_git": True, "disable_code": True, "x_save_requirements": False}
    settings |= {"x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}
    settings |= {"init_timeout": init_timeout_s, "finish_timeout": finish_timeout_s}
    where: dict[str, Any] = {"dir": str(folder), "project": project, "entity": entity}
    # "create_new" leaves the caller's own `wandb.run` alone.
    run = wandb.init(mode=mode, reinit="create_new", settings=wandb.Settings(**settings), **where, **about)
    # An axis of our own: on wandb's a row whose step does not grow is dropped.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def log_point(run: Any, step: int, numbers: Mapping[str, float | int]) -> None:
    """One step of the curves."""
    run.log({"step": step, **{name: float(value) for name, value in numbers.items()}})


def log_record(run: Any, record: Mapping[str, Any]) -> None:
    """What `result.json` holds, apart from the config, which the run was opened with."""
    from qresearch.store.wandb_media import layer_media

    words = {name: record[name] for name in WORDS if record.get(name) is not None}
    run.summary.update({**record["metrics"], **words})
    media = layer_media(record.get("layers", ()))
    if media:
        # Until `wandb sync`, tables lie in wandb's data folder, which would be in the user's home.
        with _environment(WANDB_DATA_DIR=str(Path(run.dir).parent)):
            run.log(media)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Within the block the process has these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
