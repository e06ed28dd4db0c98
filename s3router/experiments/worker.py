"""Runs one job and writes how it ended: ``python -m s3router.experiments.worker FOLDER NAME``.

It stands between launcher and job, here or on a machine of the cluster, so that a job's end is on disk whether or not
the launcher is still there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from s3router.experiments.job_state import DONE, FAILED, RUNNING, STOPPED, JobFolder

GRACE_SECONDS = 30.0  # from a polite end to a kill


def run(root: Path, name: str, stoppable: bool = True) -> int:
    """Run the job, unless another worker is at it; returns its exit status (128 + signal where it was killed).

    Args:
        stoppable: SIGTERM and SIGINT end the job. Not so under submitit, which waits for signals of its own.
    """
    folder = JobFolder(root, name)
    with folder.hold() as lock:
        if lock is None:
            print(f"{name}: another worker is at it already", file=sys.stderr)
            return 1
        job, attempts, begun = folder.read_job(), folder.status().get("attempts", 0) + 1, time.time()
        folder.set_status(RUNNING, attempts=attempts, pid=os.getpid(), host=socket.gethostname())
        with folder.log.open("ab", buffering=0) as log:
            log.write(f"# {time.strftime('%F %T')} {shlex.join(job['command'])}\n".encode())
            ending = _Ending()
            with ending.on_signals() if stoppable else contextlib.nullcontext():
                try:
                    process = ending.process = subprocess.Popen(
                        job["command"],
                        cwd=job["cwd"],
                        env=os.environ | job["env"],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                        pass_fds=(lock,),
                    )
                except OSError as error:
                    log.write(f"cannot be started: {error}\n".encode())
                    folder.set_status(FAILED, exit=127, seconds=0)
                    return 127
                stopped = ending.wait()
        exit_status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        state = STOPPED if stopped else DONE if exit_status == 0 else FAILED
        folder.set_status(state, exit=exit_status, seconds=round(time.time() - begun))
        return exit_status


class _Ending:
    """How a job ends: by itself, or because we were asked to stop it, which may come before it has quite started."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.stopped = False

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the job's whole group, at first politely."""
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGALRM: self._kill}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            signal.alarm(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> bool:
        """Wait for the job's end; True where we were asked to stop it."""
        if self.stopped:
            self._stop()  # again: there was no process to tell
        try:
            self.process.wait()
        except BaseException:  # submitit leaves this way when the cluster takes the machine away
            self._kill()
            self.process.wait()
            raise
        if self.stopped:
            self._kill()  # what the job left behind
        return self.stopped

    def _stop(self, *_: object) -> None:
        self.stopped = True
        if self.process is not None:
            _signal_group(self.process, signal.SIGTERM)
            signal.alarm(int(GRACE_SECONDS))

    def _kill(self, *_: object) -> None:
        _signal_group(self.process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Task:
    """A worker as a job of submitit; preempted or out of time, it is queued again."""

    def __init__(self, root: str, name: str):
        self.root, self.name = root, name

    def __call__(self) -> int:
        return run(Path(self.root), self.name, stoppable=False)

    def checkpoint(self):
        """What submitit runs when the cluster takes the machine away."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2]))
