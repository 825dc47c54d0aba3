"""Weights & Biases as a listener: it is told about runs, and nothing it does can harm or hold one.

Every call to wandb is made by one daemon thread of the process. `start` and `log` queue jobs for it, `finish` waits
for it, the exit of the interpreter 3 s at most. A thread that has opened or closed no run for `patience_s` hangs. A
failure is one line of `logging`: a server that cannot be reached turns this and later runs offline, a failed call
costs its run, a thread that hangs ends the tracking of the process.

Cells that are computed side by side are runs side by side. The first `TOGETHER` of them are open at once (each holds
three files of wandb's service); what the others say is kept in memory until one of those ends, or they do.

Offline, with wandb 0.31: 1.5 s of CPU time for the first run of a process (1 s of it the import), 0.05 s
for each later one (200 rows, 60 rows of layers); the caller pays 0.5 ms in `start` and 1 us per `log`.
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
from typing import Any, ClassVar, Literal

from qresearch.store.wandb_run import log_point, log_record, open_run, start_service

TOGETHER = 16
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
        self.together: set[_Run] = set()  # that are open now
        self.moves = 0  # runs opened and closed so far
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
        moves = self.moves
        while not self.given_up and not run.ended.wait(patience_s):
            if moves == self.moves:
                self.given_up = run.failed = True
                logger.warning("W&B hangs (%.0f s) and is left alone from now on: %s", patience_s, run.lost())
            moves = self.moves
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
            run.do(action, args)
        except BaseException as error:  # a SystemExit from wandb must not end the thread either
            if not self.given_up:
                logger.warning("W&B failed (%s), later runs stay offline: %s", _one_line(error), run.lost())
            logger.debug("W&B failed", exc_info=True)
            self.given_up |= isinstance(error, ImportError)
            run.failed = self.offline = True
            run.end()
            if not self.together:
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
        self.kept: list[tuple[Callable, tuple]] = []  # what it has to do once it is open
        self.failed = False
        self.ended = threading.Event()

    def do(self, action: Callable, args: tuple) -> None:
        """Do what was asked, and before it what had to wait; too many open runs let all wait but the end."""
        self.kept.append((action, args))
        if self.run is None and len(self.listener.together) >= TOGETHER and action != self.close:
            return
        self.listener.together.add(self)
        kept, self.kept = self.kept, []
        for earlier, its in kept:
            earlier(*its)

    def open(self) -> None:
        wandb, session = start_service(self.folder)
        self.listener.guard_exit(wandb, session)
        why = self._connect(wandb) if self.tracker.online and not self.listener.offline else None
        if self.run is None:
            self.run = self._open("offline")
        self.listener.guard_exit(wandb, session)  # again, in case only `init` started the service
        if why:
            self.failed = self.listener.offline = True
            sync = f"`wandb sync {Path(self.run.dir).parent}`"
            logger.warning("W&B not reached (%s): this run and later ones stay offline; %s uploads", why, sync)
        self.listener.moves += 1

    def _connect(self, wandb) -> str | None:
        """Open the run on the server, or say why not; never asks for a key."""
        try:
            if not wandb.login(prompt=False, verify=False):
                return "no API key; `wandb login` stores one"
            self.run = self._open("online")
        except Exception as error:
            logger.debug("W&B not reached", exc_info=True)
            return _one_line(error)
        logger.info("W&B run: %s", self.run.url)

    def _open(self, mode: Literal["online", "offline"]) -> Any:
        tracker = self.tracker
        return open_run(
            mode=mode,
            folder=self.folder,
            project=tracker.project,
            entity=tracker.entity,
            init_timeout_s=tracker.init_timeout_s,
            # wandb gives up before we do: what it could not upload is then complete on the disk.
            finish_timeout_s=0.4 * tracker.patience_s,
            **self.about,
        )

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        log_point(self.run, step, metrics)

    def close(self, record: Mapping) -> None:
        try:
            log_record(self.run, record)
        finally:
            self.run.finish(exit_code=int(record["status"] == "failed"))
        self.end()

    def end(self) -> None:
        self.listener.together.discard(self)
        self.listener.moves += 1
        self.ended.set()

    def lost(self) -> str:
        """What may be lost with this run, and what is not."""
        return (
            f"run {self.about['name']!r} may lack curves there. Its result is safe in "
            f"{self.folder / 'result.json'}; `wandb sync` uploads what is in {self.folder / 'wandb'}"
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
