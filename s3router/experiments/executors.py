"""Executors, which start workers: on this machine, or through submitit on a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from s3router.errors import ConfigError
from s3router.experiments.job_plan import Job
from s3router.experiments.job_state import RUNNING, SUBMITTED, WAITING, JobFolder, read_json
from s3router.files import write_json

_DAY_MINUTES = 24 * 60  # of a job on Slurm, unless timeout_min says otherwise; submitit's own default is 5


class Handle(Protocol):
    """A job that was started."""

    def alive(self) -> bool:
        """Whether it waits or runs; when not, its folder says how it ended."""

    def stop(self) -> None:
        """Ask it to end."""


class Executor(Protocol):
    """Starts jobs."""

    stops_with_launcher: bool
    poll_seconds: float

    def start(self, job: Job, folder: JobFolder, slot: int) -> Handle:
        """Start a job whose folder is prepared; ``slot`` is below the number of jobs at once."""

    def adopt(self, folder: JobFolder) -> Handle | None:
        """A job that an earlier launcher started and that is still going on, or None."""


class LocalExecutor:
    """Workers on this machine.

    Args:
        threads: OMP_NUM_THREADS of each job, unless the environment has it.
        gpus: each job sees the one of its slot; empty: all see all.
    """

    stops_with_launcher = True
    poll_seconds = 0.1

    def __init__(self, threads: int, gpus: Sequence[str] = ()):
        self.threads, self.gpus = threads, list(gpus)

    def start(self, job: Job, folder: JobFolder, slot: int) -> Handle:
        env = {"OMP_NUM_THREADS": str(self.threads)} | os.environ
        if self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        process = subprocess.Popen(
            [sys.executable, "-m", "s3router.experiments.worker", str(folder.root), folder.name],
            env=with_package(env),
            start_new_session=True,  # a ctrl-C in the terminal is for the launcher alone
        )
        return _LocalHandle(process)

    def adopt(self, folder: JobFolder) -> Handle | None:
        return _AdoptedHandle(folder) if folder.held() else None


def with_package(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with this package importable in it."""
    root = str(Path(__file__).parents[2])
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    return {**env, "PYTHONPATH": os.pathsep.join([root, *(path for path in paths if path and path != root)])}


class _LocalHandle:
    def __init__(self, process: subprocess.Popen):
        self.process = process

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        if self.alive():
            self.process.terminate()


class _AdoptedHandle:
    """A worker of a launcher that is gone, known by the lock that it holds."""

    def __init__(self, folder: JobFolder):
        self.folder = folder

    def alive(self) -> bool:
        return self.folder.held()

    def stop(self) -> None:
        pid = self.folder.status().get("pid")
        if self.alive() and isinstance(pid, int) and _is_worker(pid, self.folder):
            os.kill(pid, signal.SIGTERM)


def _is_worker(pid: int, folder: JobFolder) -> bool:
    """Whether the process holds the job's lock."""
    try:
        files = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    return str((folder.path / "lock").resolve()) in files


class SubmititExecutor:
    """Workers as jobs of submitit.

    Args:
        root: folder of the launch, which every machine must see under the same path.
        cluster: slurm; local (processes on this machine) and debug (in this process) are for trials.
        settings: parameters of submitit.AutoExecutor, such as timeout_min, slurm_partition, gpus_per_node.
    """

    stops_with_launcher = False
    poll_seconds = 2.0

    def __init__(self, root: Path, cluster: str = "slurm", settings: Mapping[str, Any] | None = None):
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("Slurm needs submitit: pip install submitit (tools/setup.sh installs it).") from error
        self.cluster, self._folder = cluster, root / ".submitit"
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster)
            self._executor.update_parameters(**{"name": "s3router", "timeout_min": _DAY_MINUTES} | dict(settings or {}))
        except (NameError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"submitit refuses these settings for {cluster}: {str(error).splitlines()[0]}") from error
        self._job_class = type(self._executor._executor).job_class

    def start(self, job: Job, folder: JobFolder, slot: int) -> Handle:
        from s3router.experiments.worker import Task

        folder.set_status(SUBMITTED)  # before it is: the worker's own words come later
        try:
            submitted = self._executor.submit(Task(str(folder.root), folder.name))
        except (OSError, RuntimeError) as error:  # no sbatch, or it refuses
            folder.set_status(WAITING)
            said = " ".join(str(error).split())
            raise ConfigError(
                f"{folder.name} cannot be submitted to {self.cluster} ({said}). What was submitted before goes on; "
                "correct the settings, or try again later: the same command waits for it."
            ) from error
        write_json(folder.path / "submitted.json", {"job_id": submitted.job_id})
        if self.cluster == "debug":
            submitted.done()  # there, asking for it is what runs it
        return _SubmittedHandle(submitted)

    def adopt(self, folder: JobFolder) -> Handle | None:
        if self.cluster == "local":  # submitit knows only the processes that it started itself
            return _AdoptedHandle(folder) if folder.held() else None
        job_id = read_json(folder.path / "submitted.json").get("job_id")
        if job_id is None or folder.status()["state"] not in (SUBMITTED, RUNNING):
            return None
        handle = _SubmittedHandle(self._job_class(self._folder, job_id))
        return handle if handle.alive() else None


class _SubmittedHandle:
    def __init__(self, submitted: Any):
        self.submitted = submitted

    def alive(self) -> bool:
        return not self.submitted.done()

    def stop(self) -> None:
        self.submitted.cancel()
