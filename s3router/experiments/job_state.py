"""The state of a job, as its folder holds it: how far it is, and whether a worker is at it.

``FOLDER/NAME/status.json`` is written whole or not at all; ``log`` is the job's output, all attempts one after another;
``lock`` is held (flock) while the job runs, by the worker and by the job itself, so that it is free when both are gone,
however they went.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from s3router.errors import ConfigError
from s3router.experiments.job_plan import Job
from s3router.files import write_json

WAITING, SUBMITTED, RUNNING, DONE, FAILED, STOPPED = "waiting", "submitted", "running", "done", "failed", "stopped"


class JobFolder:
    """The folder of one job under the folder of a launch."""

    def __init__(self, root: Path, name: str):
        self.root, self.name, self.path = root, name, root / name
        self.log, self._status, self._lock = self.path / "log", self.path / "status.json", self.path / "lock"

    def prepare(self, job: Job) -> None:
        """Write what the worker needs to know."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "job.json", {"command": job.command, "cwd": job.cwd, "env": dict(job.env)})

    def read_job(self) -> dict[str, Any]:
        """What `prepare` wrote."""
        return read_json(self.path / "job.json")

    def status(self) -> dict[str, Any]:
        """The last status, at least {"state": ...}."""
        return read_json(self._status) or {"state": WAITING}

    def set_status(self, state: str, **more: Any) -> None:
        """Replace the status; the digest of the job and the number of attempts stay."""
        kept = {key: value for key, value in self.status().items() if key in ("digest", "attempts")}
        write_json(self._status, {**kept, **more, "state": state, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")})

    def done(self, job: Job) -> bool:
        """Whether this very job has been finished."""
        status = self.status()
        return status["state"] == DONE and status.get("digest") == job.digest

    @contextlib.contextmanager
    def hold(self) -> Iterator[int | None]:
        """Hold the lock; gives its file descriptor, or None where another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as stream:
            yield stream.fileno() if _try_lock(stream) else None

    def held(self) -> bool:
        """Whether a worker is at the job."""
        if not self._lock.exists():
            return False
        with self._lock.open("a") as stream:
            return not _try_lock(stream)

    def last_lines(self, count: int = 12) -> list[str]:
        """The end of the log."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - 20_000))
                return stream.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()[-count:]
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def only_launcher(root: Path) -> Iterator[None]:
    """Hold the folder of a launch against a second launcher; raises ConfigError.

    The lock is of this process alone (lockf, not flock): forked children that outlive it do not hold it.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".launcher.lock").open("a") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ConfigError(
                f"{root}: another launcher is at work there. Wait for it, or name another folder (--folder of "
                "s3router launch, runs: of a grid)."
            ) from None
        yield


def _try_lock(stream: IO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
