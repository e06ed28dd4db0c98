"""Runs as forked children of one process that has the heavy modules loaded: they start at once, and share memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from s3router.errors import S3RouterError
from s3router.experiments.executors import Handle, LocalExecutor
from s3router.experiments.job_plan import Job
from s3router.experiments.job_state import DONE, FAILED, RUNNING, STOPPED, JobFolder
from s3router.experiments.one_run import RUN
from s3router.experiments.worker import GRACE_SECONDS


class ForkExecutor(LocalExecutor):
    """Jobs whose folder holds a run are forked; others, such as the preparation of data, are processes of their own.

    The parent must not have computed with several threads before: OpenMP's pool does not survive a fork, and children
    would wait for it for ever.

    Args:
        make: makes the run of a folder, in the child.
        preload: imports what runs need, in the parent, before the first of them.
    """

    def __init__(
        self, make: Callable[[Path], None], preload: Callable[[], None], threads: int, gpus: Sequence[str] = ()
    ):
        super().__init__(threads, gpus)
        self.make, self.preload, self._loaded = make, preload, False

    def start(self, job: Job, folder: JobFolder, slot: int) -> Handle:
        if not (folder.path / RUN).is_file():
            return super().start(job, folder, slot)
        if not self._loaded:
            self.preload()
            self._loaded = True
        sys.stdout.flush()
        process = multiprocessing.get_context("fork").Process(target=self._child, args=(folder, slot), name=job.name)
        process.start()
        return _ForkedHandle(process)

    def _child(self, folder: JobFolder, slot: int) -> None:
        os.setsid()  # a ctrl-C in the terminal is for the parent alone
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _leave)
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        with folder.hold() as lock:
            if lock is None:
                print(f"{folder.name}: another worker is at it already", file=sys.stderr)
                sys.exit(1)
            _speak_to(folder.log)
            begun = time.time()
            folder.set_status(RUNNING, attempts=folder.status().get("attempts", 0) + 1, pid=os.getpid())
            state, status = _outcome(lambda: self.make(folder.path))
            folder.set_status(state, exit=status, seconds=round(time.time() - begun))
        sys.exit(status)


def _outcome(make: Callable[[], None]) -> tuple[str, int]:
    try:
        make()
    except S3RouterError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED, 1
    except _Left:
        return STOPPED, 128 + signal.SIGTERM
    except BaseException:
        traceback.print_exc()
        return FAILED, 1
    return DONE, 0


class _Left(BaseException):
    """We were asked to stop: what is half-written is cleaned up on the way out."""


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(int(GRACE_SECONDS))  # whose usual action ends the process
    raise _Left


def _speak_to(path: Path) -> None:
    """Everything that is printed from now on goes to the end of a file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))


class _ForkedHandle:
    def __init__(self, process: multiprocessing.Process):
        self.process = process

    def alive(self) -> bool:
        return self.process.is_alive()

    def stop(self) -> None:
        self.process.terminate()
