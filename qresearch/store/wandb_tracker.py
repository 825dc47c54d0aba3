"""Weights & Biases as a listener: it is told about runs, and nothing it does can harm or hold one.

Every call to wandb is made by one daemon thread of the process. `start` and `log` queue jobs for it,
`finish` waits for it `patience_s` at most, the exit of the interpreter 3 s at most. A failure is one line
of `logging`: a server that cannot be reached turns this and later runs offline, a failed call costs its
run, a thread that hangs ends the tracking of the process.

Offline, with wandb 0.31: 1.3 s of CPU time for the first run of a process (1 s of it the import), 0.06 s
for each later one (200 rows, 60 layers); the caller pays 0.5 ms in `start` and 1 us per `log`.
"""

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WandbTracker:
    """A W&B run in the run's folder and, if `online` and it can be reached, on the server."""

    online: bool = False
    project: str = "qresearch"
    entity: str | None = None
    init_timeout_s: float = 10.0
    patience_s: float = 25.0
    _run: ClassVar["_Run"]  # set on the instance by `start`; as it is no setting, it is no field

    def start(self, *, folder: Path, name: str, group: str | None, config: dict) -> None:
        run = _Run(self, Path(folder).absolute(), name=name, group=group, config=config)
        object.__setattr__(self, "_run", run)
        run.listener.put(run, run.open)

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        self._run.listener.put(self._run, self._run.log, step, dict(metrics))

    def finish(self, record: Mapping) -> None:
        self._run.listener.put(self._run, self._run.close, record)
        self._run.listener.wait(self._run, self.patience_s)


class _Listener:
    """The thread in which a process talks to W&B, and what it has learnt about W&B so far."""

    def __init__(self):
        self.jobs = queue.SimpleQueue()
        self.offline = False  # the server could not be reached: do not try again
        self.given_up = False  # the thread hangs, or there is no wandb: no more jobs
        self.spent_s = 0.0  # of the patience, in runs that W&B failed
        self.teardown: Callable | None = None  # wandb's, once it is imported
        self.service: subprocess.Popen | None = None
        self.closed, self.stuck = threading.Event(), threading.Event()
        threading.Thread(target=self._work, name="wandb-listener", daemon=True).start()
        # Made now, because Python 3.12 and later start no thread at exit.
        self.reaper = threading.Thread(target=self._reap, name="wandb-reaper", daemon=True)
        self.reaper.start()

    def put(self, run: "_Run", action: Callable, *args) -> None:
        if not self.given_up:
            self.jobs.put((run, action, args))

    def wait(self, run: "_Run", patience_s: float) -> None:
        begin = time.monotonic()
        patience_s = max(min(1.0, patience_s), patience_s - self.spent_s)
        if not self.given_up and not run.ended.wait(patience_s):
            self.given_up = run.failed = True
            logger.warning("W&B hangs (%.0f s) and is left alone from now on: %s", patience_s, run.lost())
        if run.failed:
            self.spent_s += time.monotonic() - begin

    def guard_exit(self, wandb, session) -> None:
        """wandb's own hook waits without limit; `close`, registered after it, runs first and takes it off."""
        self.teardown = wandb.teardown
        with contextlib.suppress(AttributeError):  # private names, which a test watches
            self.service = session._connection._proc._process
        atexit.unregister(self.close)
        atexit.register(self.close)

    def close(self) -> None:
        if not self.given_up:
            self.jobs.put((None, self.release, ()))
            self.closed.wait(2.0)
        if not self.closed.is_set():
            self.stuck.set()
            self.reaper.join(1.0)
            if self.service:  # has our standard output, and who reads that would wait for it
                self.service.kill()

    def release(self) -> None:
        """Leave wandb's service, open runs as failed ones; the next `wandb.setup` starts a new service."""
        try:
            if self.teardown:
                self.teardown(exit_code=1)
        except BaseException:  # a dead service, or the sys.exit in which wandb's teardown may end
            logger.debug("W&B teardown", exc_info=True)

    def _work(self) -> None:
        while True:
            run, action, args = self.jobs.get()
            if run is None:
                action()
                self.closed.set()
            elif not self.given_up and not run.ended.is_set():
                self._attempt(run, action, args)

    def _attempt(self, run: "_Run", action: Callable, args: tuple) -> None:
        try:
            action(*args)
        except BaseException as error:  # a SystemExit from wandb must not end the thread either
            if not self.given_up:
                logger.warning("W&B failed (%s), later runs stay offline: %s", _one_line(error), run.lost())
            logger.debug("W&B failed", exc_info=True)
            self.given_up |= isinstance(error, ImportError)
            run.failed = self.offline = True
            run.ended.set()
            self.release()

    def _reap(self) -> None:
        self.stuck.wait()
        self.release()


@functools.cache
def _listener(pid: int) -> _Listener:
    """The listener of a process; a forked one gets its own, as threads do not survive a fork."""
    return _Listener()


class _Run:
    """One run of W&B; only the listener's thread calls `open`, `log` and `close`."""

    def __init__(self, tracker: WandbTracker, folder: Path, **about):
        self.tracker, self.folder, self.about = tracker, folder, about
        self.listener = _listener(os.getpid())
        self.run: Any = None
        self.failed = False
        self.ended = threading.Event()

    def open(self) -> None:
        # At exit wandb's telemetry tries for 14 s to report a failed connection over the failed connection.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        session = wandb.setup(wandb.Settings(silent=True))
        self.listener.guard_exit(wandb, session)
        why = self._connect(wandb) if self.tracker.online and not self.listener.offline else None
        if self.run is None:
            self.run = self._init(wandb, "offline")
        self.listener.guard_exit(wandb, session)  # again, in case only `init` started the service
        if why:
            self.failed = self.listener.offline = True
            sync = f"`wandb sync {Path(self.run.dir).parent}`"
            logger.warning("W&B not reached (%s): this run and later ones stay offline; %s uploads", why, sync)
        # An axis of our own: on wandb's a row whose step does not grow is dropped.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def _connect(self, wandb) -> str | None:
        """Open the run on the server, or say why not; never asks for a key."""
        try:
            if not wandb.login(prompt=False, verify=False):
                return "no API key; `wandb login` stores one"
            self.run = self._init(wandb, "online")
        except Exception as error:
            logger.debug("W&B not reached", exc_info=True)
            return _one_line(error)
        logger.info("W&B run: %s", self.run.url)

    def _init(self, wandb, mode: str):
        quiet = {"silent": True, "console": "off", "symlink": False, "finish_timeout_raises": True}
        bare = {"disable_git": True, "disable_code": True, "x_save_requirements": False}
        blind = {"x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}
        # wandb gives up before we do: what it could not upload is then complete on the disk.
        until = {"init_timeout": self.tracker.init_timeout_s, "finish_timeout": 0.4 * self.tracker.patience_s}
        settings = wandb.Settings(**quiet, **bare, **blind, **until)
        where = {"dir": str(self.folder), "project": self.tracker.project, "entity": self.tracker.entity}
        # "create_new" leaves the caller's own `wandb.run` alone.
        return wandb.init(mode=mode, reinit="create_new", settings=settings, **where, **self.about)

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        self.run.log({"step": step, **{name: float(value) for name, value in metrics.items()}})

    def close(self, record: Mapping) -> None:
        words = {name: record[name] for name in ("status", "config_hash")}
        self.run.summary.update({**record["metrics"], **words})
        try:
            self._log_layers(record["layers"])
        finally:
            self.run.finish()
        self.ended.set()

    def _log_layers(self, layers) -> None:
        import wandb

        # Tables pass through wandb's data folder, by default in the user's home, until `wandb sync`.
        os.environ["WANDB_DATA_DIR"] = str(self.folder / "wandb")
        columns = list(dict.fromkeys(name for row in layers for name in row))
        rows = [[row.get(name) for name in columns] for row in layers]
        if rows:
            self.run.log({"layers": wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})

    def lost(self) -> str:
        """What may be lost with this run, and what is not."""
        return (
            f"run {self.about['name']!r} may lack curves there. Its result is safe in "
            f"{self.folder / 'result.json'}; `wandb sync` uploads what is in {self.folder / 'wandb'}"
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
