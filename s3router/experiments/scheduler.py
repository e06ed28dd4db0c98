"""Scheduling of the jobs of a plan, a bounded number at once; skips finished jobs, and waits for running ones."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from s3router.experiments.executors import Executor, Handle
from s3router.experiments.job_plan import Job
from s3router.experiments.job_state import DONE, FAILED, RUNNING, STOPPED, SUBMITTED, WAITING, JobFolder, only_launcher
from s3router.experiments.worker import GRACE_SECONDS
from s3router.training.progress import clock

STATUS_SECONDS = 300.0  # between lines on how far things are


class Work(Protocol):
    """What is to be done; it may depend on how earlier jobs have ended."""

    def jobs(self) -> Sequence[Job]:
        """All that is wanted so far, finished or not, in the order in which to start it; needed jobs come first."""

    def done(self, job: Job) -> bool:
        """Whether this very job has been finished, now or before."""

    def prepare(self, job: Job, folder: JobFolder) -> None:
        """Called before a job is started: leave in its folder what it needs."""

    def ended(self, job: Job, failed: bool) -> str | None:
        """Called when a job has ended; why it failed all the same, or None."""

    def said(self, job: Job) -> str:
        """What to say of a finished job, besides its name."""

    def status(self, running: int, failed: int) -> str | None:
        """A line on how far things are, or None."""

    def resume(self, name: str) -> str:
        """The command that runs a job again, for messages."""


class Fixed:
    """Jobs that are all known beforehand."""

    def __init__(self, jobs: Sequence[Job], root: Path, resume: Callable[[str], str] = str):
        self._jobs, self.root, self.resume = list(jobs), root, resume

    def jobs(self) -> Sequence[Job]:
        return self._jobs

    def done(self, job: Job) -> bool:
        return JobFolder(self.root, job.name).done(job)

    def prepare(self, job: Job, folder: JobFolder) -> None:
        pass

    def ended(self, job: Job, failed: bool) -> str | None:
        return None

    def said(self, job: Job) -> str:
        return ""

    def status(self, running: int, failed: int) -> str | None:
        return None


class Scheduler:
    """One launch.

    Args:
        root: folder of states and logs.
        limit: jobs at once.
    """

    def __init__(self, work: Work, root: Path, executor: Executor, limit: int):
        self.work, self.root, self.executor, self.limit = work, root, executor, limit
        self.jobs: dict[str, Job] = {}
        self.running: dict[str, tuple[Handle, int]] = {}  # name -> (handle, slot)
        self.done: set[str] = set()
        self.others: set[str] = set()  # of those running: another command, which a launch of before gave this name
        self.failed: list[str] = []
        self.blocked: dict[str, str] = {}
        self._stop, self._changed, self._told = 0, True, time.monotonic()

    def run(self) -> int:
        """Work until all is done or nothing can be started; returns the exit status (0, 1, or 128 + signal)."""
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with only_launcher(self.root):
                self._plan()
                if self.done:
                    self._say(f"{len(self.done)} of {len(self.jobs)} jobs were done before")
                while not self._stop:
                    self._plan()
                    waiting = self._waiting()
                    if not waiting and not self.running:
                        break
                    self._start(waiting)
                    self._look()
                    if self.running:
                        self._tell(STATUS_SECONDS)
                        time.sleep(self.executor.poll_seconds)
                if self._stop:
                    return self._end()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self._summary()

    def folder(self, name: str) -> JobFolder:
        """Of a job."""
        return JobFolder(self.root, name)

    def _plan(self) -> None:
        """Ask for the jobs again where some have ended since; take up what an earlier launcher has left going."""
        if not self._changed:
            return
        self._changed = False
        for job in self.work.jobs():
            known = job.name in self.jobs
            self.jobs[job.name] = job
            if job.name in self.running or job.name in self.failed:
                continue
            if self.work.done(job):
                self.done.add(job.name)
            elif not known and (handle := self.executor.adopt(self.folder(job.name))):
                self.running[job.name] = handle, self._free_slot()
                if self.folder(job.name).status().get("digest", job.digest) == job.digest:
                    self._say(f"{job.name} goes on, from an earlier launch")
                else:
                    self.others.add(job.name)
                    self._say(f"{job.name}: another command of this name still runs, from an earlier launch; we wait")

    def _waiting(self) -> list[Job]:
        """Jobs that are neither done, running, failed nor blocked, in order."""
        settled = self.done | set(self.failed) | set(self.running)
        for job in self.jobs.values():
            lost = [need for need in job.needs if need in self.failed or need in self.blocked]
            if lost and job.name not in settled:
                self.blocked[job.name] = lost[0]
        return [job for job in self.jobs.values() if job.name not in settled and job.name not in self.blocked]

    def _start(self, waiting: list[Job]) -> None:
        for job in waiting:
            if len(self.running) >= self.limit or self._stop:
                return
            if set(job.needs) <= self.done:
                folder, slot = self.folder(job.name), self._free_slot()
                folder.prepare(job)
                self.work.prepare(job, folder)
                again = folder.status().get("digest") == job.digest
                folder.set_status(
                    WAITING, digest=job.digest, attempts=folder.status().get("attempts", 0) if again else 0
                )
                self.running[job.name] = self.executor.start(job, folder, slot), slot
                self._say(f"started {job.name}")

    def _free_slot(self) -> int:
        taken = {slot for _, slot in self.running.values()}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _look(self) -> None:
        for name in [name for name, (handle, _) in self.running.items() if not handle.alive()]:
            del self.running[name]
            self._changed = True
            if name in self.others:  # what it has made is not what is wanted
                self.others.remove(name)
                continue
            job, folder = self.jobs[name], self.folder(name)
            status = folder.status()
            if status["state"] in (WAITING, SUBMITTED, RUNNING) and not self.executor.stops_with_launcher:
                time.sleep(self.executor.poll_seconds)  # a network file system may show the worker's last words late
                status = folder.status()
            why = self.work.ended(job, status["state"] != DONE)
            if status["state"] == DONE and why is None:
                self.done.add(name)
                self._say(f"done {name} in {clock(status['seconds'])}{self.work.said(job)}")
                self._tell(0)
                continue
            if status["state"] in (WAITING, SUBMITTED, RUNNING):  # its worker was killed without a word
                folder.set_status(FAILED, exit=None)
            elif status["state"] == DONE:
                folder.set_status(FAILED, exit=0)
            self.failed.append(name)
            self._say(f"FAILED {name}: {why or _how(folder.status())}; the last lines of {folder.log}:")
            self._print("\n".join(f"    {line}" for line in folder.last_lines()))
            self._say(f"  to resume it: {self.work.resume(name)}")
            self._tell(0)

    def _tell(self, seconds: float) -> None:
        """Say how far things are, unless it was said so many seconds ago."""
        if time.monotonic() - self._told >= seconds:
            self._told = time.monotonic()
            if line := self.work.status(len(self.running), len(self.failed)):
                self._say(line)

    def _end(self) -> int:
        """We were asked to stop."""
        if not self.executor.stops_with_launcher:
            self._say(f"the launcher stops; {len(self.running)} submitted jobs go on. The same command waits for them")
            return 128 + self._stop
        for handle, _ in self.running.values():
            handle.stop()
        limit = time.monotonic() + GRACE_SECONDS + 10
        while any(handle.alive() for handle, _ in self.running.values()) and time.monotonic() < limit:
            time.sleep(0.05)
        for name in self.running:
            if self.folder(name).status()["state"] in (WAITING, RUNNING):
                self.folder(name).set_status(STOPPED, exit=None)
        names = ", ".join(self.running) or "nothing was running"
        self._say(f"stopped ({names}); the same command goes on with what is not done")
        return 128 + self._stop

    def _summary(self) -> int:
        self._say(f"{len(self.done)} of {len(self.jobs)} jobs are done, {len(self.failed)} failed")
        for name in self.failed:
            self._say(f"failed: {name}, see {self.folder(name).log}; to resume it: {self.work.resume(name)}")
        for name, need in self.blocked.items():
            self._say(f"not started: {name}, which needs {need}")
        return 1 if self.failed or self.blocked else 0

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = self._stop or number

    def _say(self, text: str) -> None:
        self._print(f"{time.strftime('%H:%M:%S')} {text}")

    @staticmethod
    def _print(text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError:  # who read it is gone (`tee` at a ctrl-C, say); our jobs are still to be looked after
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listing(jobs: Sequence[Job], root: Path) -> str:
    """State, name and command of every job, as a rerun would see them."""
    lines = []
    for job in jobs:
        folder = JobFolder(root, job.name)
        status = folder.status() if folder.path.is_dir() else {"state": WAITING}
        state = status["state"]
        if state == DONE and not folder.done(job):
            state = "changed"  # done, but it was another command
        elif state in (RUNNING, WAITING) and status.get("attempts") and not folder.held():
            state = "killed"
        lines.append(f"{state:9s} {job.name}: {job.by_hand}")
    return "\n".join(lines)


def _how(status: dict) -> str:
    if status.get("exit") is None:
        return "killed"
    return "stopped" if status["state"] == STOPPED else f"exit status {status['exit']}"
