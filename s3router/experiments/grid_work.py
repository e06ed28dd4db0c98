"""A grid as work for the scheduler: which runs are wanted now, what they need, and what becomes of their results."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3router.errors import ConfigError, S3RouterError
from s3router.experiments.grid import Grid, Run
from s3router.experiments.job_plan import Job
from s3router.experiments.job_state import JobFolder
from s3router.experiments.kinds import kind_of, placeholders, prepare_command
from s3router.experiments.one_run import RESULT, description, gather, write_result, write_run
from s3router.experiments.planning import Plan
from s3router.experiments.reading import has_model
from s3router.experiments.results import Known
from s3router.experiments.union import parts_of, union_command
from s3router.training.progress import clock

_SAME_FOR_ALL = {"local", "upstream"}
"""Placeholders that mean the same in every run of a grid."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.=+-]+")


@dataclass(frozen=True)
class Choice:
    """Which runs of a grid are wanted.

    Attributes:
        sweep: False: no sweeps, the first value of every list.
        models: train again where there is a result file, but not its model on this machine.
        words: options of the command that led here, for messages.
    """

    only: re.Pattern[str] = re.compile("")
    sweep: bool = True
    models: bool = False
    words: tuple[str, ...] = ()


class GridWork:
    """The runs of a grid; see `s3router.experiments.scheduler.Work`.

    Args:
        report: called after each run with all that is known.
    """

    def __init__(self, grid: Grid, choice: Choice = Choice(), report: Callable[[Known], None] = lambda known: None):
        self.grid, self.choice, self.report, self.kind = grid, choice, report, kind_of(grid)
        self.known = Known.read(grid.results, grid.select)  # what failed before is tried again
        self.failed: set[str] = set()
        self.again: set[str] = set()
        self._runs: dict[str, Run] = {}
        self._needed_by: dict[str, Run] = {}
        self._pace: list[float] = []

    def plan(self) -> Plan:
        """By what is known now."""
        return Plan(self.grid, self.known, self.choice.sweep)

    def wanted(self, run: Run) -> bool:
        """Whether ``--only`` lets it through."""
        return bool(self.choice.only.search(run.name))

    def check_only(self) -> None:
        """Raises ConfigError where ``--only`` lets nothing through."""
        whole = self.plan().everything()
        if not any(map(self.wanted, whole)):
            raise ConfigError(
                f"--only {self.choice.only.pattern!r} matches none of the {len(whole)} runs of {self.grid.typed}"
            )

    def lacks(self, run: Run) -> bool:
        """Whether there is anything to make of a run."""
        if not self.choice.models or not self.known.done(run):
            return not self.known.settled(run)
        return run.key not in self.again | self.failed and not finished(self.folder(run))

    def folder(self, run: Run) -> Path:
        """Where a run is made."""
        return self.grid.runs / run.name

    # --- what the scheduler asks --------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Preparations that are lacking, then the runs."""
        first: dict[str, Job] = {}
        found = []
        for run in filter(self.wanted, self.plan().runs()):
            needs: tuple[str, ...] = ()
            if self.lacks(run):
                needs = self._preparations(run, first)
            self._runs[run.name] = run
            found.append(Job(run.name, tuple(self._command(run)), str(self.grid.folder), self._env(), needs))
        return [*first.values(), *found]

    def done(self, job: Job) -> bool:
        run = self._runs.get(job.name)
        if run is not None:
            return not self.lacks(run)
        if self.kind.in_process:
            return not self._missing(self._needed_by[job.name])
        return JobFolder(self.grid.runs, job.name).done(job)

    def prepare(self, job: Job, folder: JobFolder) -> None:
        run = self._runs.get(job.name)
        if run is None:
            return
        if self.known.done(run):  # made once more, for its model
            self.again.add(run.key)
            (folder.path / RESULT).unlink(missing_ok=True)
        if self.kind.in_process:
            write_run(folder.path, run)

    def ended(self, job: Job, failed: bool) -> str | None:
        run = self._runs.get(job.name)
        if run is None:
            missing = self._missing(self._needed_by[job.name])
            return f"it has not made {', '.join(map(str, missing))}" if missing and not failed else None
        why = None if failed else self._gather(run)
        if failed or why:
            self.failed.add(run.key)
        self.known = Known(Known.read(self.grid.results, self.grid.select).results, frozenset(self.failed))
        if failed or why:
            return why
        if not self.known.done(run):
            self.failed.add(run.key)
            self.known = Known(self.known.results, frozenset(self.failed))
            return f"its result has no {self.grid.select} on dev, which the grid selects by"
        result = self.known.results[run.key]
        self._pace.append(result["seconds"] / max(1, run.updates or 1))
        self.report(self.known)
        return None

    def said(self, job: Job) -> str:
        run = self._runs.get(job.name)
        if run is None:
            return ""
        result, figures = self.known.results[run.key], self.grid.figures
        parts = [
            f"{part} "
            + " ".join(f"{f.heading} {100 * result[part][f.name]:.1f}" for f in figures if f.name in result[part])
            for part in ("dev", *self.grid.tests)
        ]
        return f": {', '.join(parts)}"

    def status(self, running: int, failed: int, jobs: int = 1) -> str:
        whole = [run for run in self.plan().everything() if self.wanted(run)]
        done = sum(map(self.known.done, whole))
        left = [run for run in whole if not self.known.settled(run)]
        text = f"{done} of {len(whole)} runs done, {running} running, {failed} failed"
        if self._pace and left:
            pace = sum(self._pace) / len(self._pace)
            seconds = pace * sum(run.updates or 1 for run in left) / max(jobs, running, 1)
            text += f", about {clock(seconds)} left"
        return text

    def resume(self, name: str) -> str:
        words = [
            "s3router",
            "experiment",
            "run",
            str(self.grid.typed),
            *self.choice.words,
            "--only",
            f"^{re.escape(name)}$",
        ]
        return shlex.join(words)

    # --- what they need -----------------------------------------------------------------------------------------------

    def _missing(self, run: Run) -> list[Path]:
        return [path for path in self.kind.inputs(run).values() if not path.exists()]

    def _preparations(self, run: Run, first: dict[str, Job]) -> tuple[str, ...]:
        """Add the jobs that make a run's data, where they are lacking, to `first`; returns the names of the needed."""
        if self.kind.in_process and not self._missing(run):
            return ()
        parts = parts_of(self.grid, run)
        command = union_command(self.grid, run) if parts else prepare_command(self.grid, run)
        if command is None:
            return ()
        needs = tuple(name for part in parts for name in self._preparations(part, first))
        shown = [f"{axis}={value}" for axis, value in run.at if parts or f"{{{axis}}}" in self.grid.raw["prepare"]]
        if not parts and set(placeholders(self.grid.raw["prepare"])) - self.grid.axes.keys() - _SAME_FOR_ALL:
            shown.append(hashlib.sha256(shlex.join(command).encode()).hexdigest()[:8])  # a seed, say: several commands
        name = "_".join(["prepare", *(_UNSAFE.sub("-", text) for text in shown)])
        first.setdefault(name, Job(name, tuple(command), str(self.grid.folder), self._env(), needs))
        self._needed_by.setdefault(name, run)
        return (name,)

    def _command(self, run: Run) -> list[str]:
        """What makes a run, in a process of its own."""
        if not self.kind.in_process:
            return self.kind.steps(run, self.folder(run))[0]
        words = [str(self.grid.path), run.name, *self.grid.overrides.words()]
        return [sys.executable, "-m", "s3router", "experiment", "one", *words]

    def _env(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((str(name), str(value)) for name, value in (self.grid.raw.get("env") or {}).items()))

    def _gather(self, run: Run) -> str | None:
        """Put a run's result file among the others; says what is wrong where that cannot be."""
        folder = self.folder(run)
        if not self.kind.in_process:
            try:
                found = self.kind.result(run, folder)
            except S3RouterError as error:
                return str(error)
            found.setdefault("seconds", JobFolder(self.grid.runs, run.name).status().get("seconds", 0))
            command = shlex.join(self.kind.steps(run, folder)[0])
            write_result(folder, description(self.grid, run, found, command))
        return None if gather(folder, self.grid.results, run) else "it has left no result"


def finished(folder: Path) -> bool:
    """Whether a run's folder holds its result and its trained model."""
    return (folder / RESULT).is_file() and has_model(folder)


def listing(work: GridWork) -> list[str]:
    """Every run of the grid with its state; those that results will decide about appear with their first guess."""
    now = {run.key for run in work.plan().runs()}
    lines = []
    for run in filter(work.wanted, work.plan().everything()):
        folder = JobFolder(work.grid.runs, run.name)
        state = "done" if work.known.done(run) else "to do" if run.key in now else "later"
        if state == "to do" and folder.path.is_dir():
            state = (
                "running"
                if folder.held()
                else {"failed": "failed", "stopped": "stopped"}.get(folder.status()["state"], state)
            )
        rates = [
            f"{name}={value:g}" for name, value in run.options if name in _tried(work) and isinstance(value, float)
        ]
        updates = [] if run.updates is None else [f"{run.updates} updates"]
        lines.append(f"{state:7}  {run.name:60} {', '.join([*updates, *rates])}")
    lines.append(f"{work.status(0, 0)}. 'later': results decide whether and with which settings it is run")
    return lines


def _tried(work: GridWork) -> set[str]:
    rates = {name for options in work.grid.methods.values() for name in options if name.endswith("lr")}
    return rates | {name for method in work.grid.methods for name in work.plan().swept_names(method)}
