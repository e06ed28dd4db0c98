#!/usr/bin/env python3
"""Make the runs of the results table that are missing, several at a time, and rewrite RESULTS.md after each.

One parent process imports ESPnet once and forks a child for every run; the child trains, decodes dev and test, and
writes its result file, so that a killed table goes on where it was: training resumes from its checkpoint, and what has
a result file is left alone. Run it from the recipe's folder, through ./run_table.sh.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import re
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from grid import FAILED, Grid, Known, Run
from one_run import LOG, RESULT, Place, commit, prepare, run_one
from report import write_report

from s3router.errors import ConfigError, S3RouterError
from s3router.files import write_lines
from s3router.training.progress import clock

STATUS_SECONDS = 300


@dataclass
class Options:
    """How the table is made (what it holds is the grid's).

    Attributes:
        report: None: result files alone, no page and no plots.
        models: train again where there is a result file, but not its model on this machine.
    """

    place: Place
    report: Path | None
    jobs: int
    only: re.Pattern[str]
    sweep: bool
    models: bool = False


class Table:
    """The scheduler: starts children, gathers results, says how far things are."""

    def __init__(self, grid: Grid, options: Options):
        self.grid, self.options = grid, options
        self.known = Known(Known.read(options.place.results).results)  # what failed before is tried again
        self.failed: dict[str, Run] = {}
        self.running: dict[multiprocessing.Process, Run] = {}
        self.again: set[str] = set()
        self.seconds_per_update: list[float] = []

    def todo(self) -> list[Run]:
        """Runs that can start now, the most telling first."""
        busy = {run.key for run in self.running.values()}
        plan = self.grid.plan(self.known, self.options.sweep)
        return [run for run in plan if self.lacks(run) and run.key not in busy and self.wanted(run)]

    def lacks(self, run: Run) -> bool:
        """Whether there is anything to make of a run."""
        if not self.options.models or not self.known.done(run):
            return not self.known.settled(run)
        return run.key not in self.again | self.failed.keys() and not self.options.place.has_model(run)

    def wanted(self, run: Run) -> bool:
        return bool(self.options.only.search(run.name))

    def make(self) -> int:
        """Work until nothing is left to start; returns the exit status."""
        with stopping_children(self.running):
            said = 0.0
            while True:
                for run in self.todo()[: self.options.jobs - len(self.running)]:
                    self.start(run)
                if not self.running:
                    break
                if time.monotonic() - said > STATUS_SECONDS:
                    self.say(self.status())
                    said = time.monotonic()
                ended = wait([process.sentinel for process in self.running], timeout=STATUS_SECONDS)
                for process in [p for p in self.running if p.sentinel in ended]:
                    self.end(process)
                    self.say(self.status())
        return self.close()

    def start(self, run: Run) -> None:
        if self.known.done(run):
            self.again.add(run.key)
            (self.options.place.folder(run) / RESULT).unlink(missing_ok=True)
        process = multiprocessing.get_context("fork").Process(
            target=run_one, args=(run, self.grid, self.options.place, commit()), name=run.name
        )
        process.start()
        self.running[process] = run
        self.say(f"started {run.name}")

    def end(self, process: multiprocessing.Process) -> None:
        process.join()
        run = self.running.pop(process)
        self.known = Known(Known.read(self.options.place.results).results, frozenset(self.failed))
        if process.exitcode == 0 and self.known.done(run):
            result = self.known.results[run.key]
            self.seconds_per_update.append(result["seconds"] / max(1, result["updates"]))
            dev, test = result["dev"], result["test"]
            self.say(
                f"finished {run.name}: dev WER {100 * dev['wer']:.1f} CER {100 * dev['cer']:.1f}, "
                f"test WER {100 * test['wer']:.1f} CER {100 * test['cer']:.1f}, {clock(result['seconds'])}"
            )
            self.write_report()
            return
        self.failed[run.key] = run
        self.known = Known(self.known.results, frozenset(self.failed))
        write_lines(self.options.place.results / FAILED, [run.name for run in self.failed.values()])
        log = self.options.place.folder(run) / LOG
        self.say(f"FAILED {run.name} (status {process.exitcode}); the last lines of {log}:")
        print("\n".join(f"    {line}" for line in last_lines(log, 12)), flush=True)
        self.say(f"  to try it again: ./run_table.sh --only '^{run.name}$'; the others go on")

    def status(self) -> str:
        whole = [run for run in self.grid.everything(self.known, self.options.sweep) if self.wanted(run)]
        done = sum(map(self.known.done, whole))
        left = [run for run in whole if not self.known.settled(run)]
        text = f"{done} of {len(whole)} runs done, {len(self.running)} running, {len(self.failed)} failed"
        if self.seconds_per_update and left:
            pace = sum(self.seconds_per_update) / len(self.seconds_per_update)
            text += f", about {clock(pace * sum(run.updates for run in left) / self.options.jobs)} left"
        return text

    def write_report(self) -> None:
        if self.options.report:
            write_report(self.grid, self.options.place.results, self.options.report)

    def close(self) -> int:
        self.write_report()
        self.say(self.status() + (f"; {self.options.report} is up to date" if self.options.report else ""))
        blocked = [m for m in self.grid.methods if self.options.sweep and not self.grid.decided(m, self.known)]
        if blocked:
            self.say(f"rows of {', '.join(blocked)} wait for sweeps that --only leaves out or that failed")
        for run in self.failed.values():
            self.say(f"failed: {run.name}, see {self.options.place.folder(run) / LOG}")
        return 1 if self.failed else 0

    @staticmethod
    def say(text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)


@contextlib.contextmanager
def stopping_children(children: dict[multiprocessing.Process, Run]):
    """When this process is asked to stop, its children are, too; they resume with the next call of the command."""

    def stop(number: int, _frame) -> None:
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        print("\nstopped; the same command goes on from the last validations", file=sys.stderr)
        sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log; a sentence where there is none."""
    if not path.is_file():
        return ["(no log was written)"]
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]


def dry_run(table: Table) -> None:
    """Print every run of the grid with its state; runs that results will decide about appear with their first guess."""
    now = {run.key for run in table.grid.plan(table.known, table.options.sweep)}
    runs = [run for run in table.grid.everything(table.known, table.options.sweep) if table.wanted(run)]
    for run in runs:
        state = "done" if table.known.done(run) else "to do" if run.key in now else "later"
        rates = " ".join(f"{name}={value:g}" for name, value in run.rates.items())
        print(f"{state:5}  {run.name:60} {run.updates} updates, {rates}")
    print(f"{table.status()}. 'later': results decide whether and with which settings it is run")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run_table.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=Path, default=Path("conf/table.yaml"), help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument("--only", default="", metavar="REGEX", help="runs whose name matches, e.g. '^en_5min'")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the grid's")
    parser.add_argument("--no-sweep", action="store_true", help="no sweeps: the first value of every learning rate")
    parser.add_argument("--max-updates", type=int, help="a trial with so many updates, kept apart under exp/trial")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their state")
    parser.add_argument("--no-report", action="store_true", help="result files alone; RESULTS.md stays as it is")
    parser.add_argument(
        "--with-models",
        action="store_true",
        help="train again where a result file is here, but its model is not (in a fresh clone)",
    )
    parser.add_argument("--report-only", action="store_true", help="rewrite RESULTS.md from the result files")
    return parser.parse_args()


def main() -> int:
    """The command; returns its exit status."""
    args = arguments()
    try:
        try:
            only = re.compile(args.only)
        except re.error as err:
            raise ConfigError(f"--only {args.only!r} is not a regular expression: {err}") from None
        if args.jobs < 1 or (args.max_updates is not None and args.max_updates < 1):
            raise ConfigError("--jobs and --max-updates must be at least 1")
        grid = Grid.read(args.grid, args.max_updates, tuple(args.seeds) if args.seeds else None)
        place = Place.usual(trial=args.max_updates is not None)
        report = Path("exp/trial/RESULTS.md" if args.max_updates else "RESULTS.md")
        shown = None if args.no_report else report
        table = Table(grid, Options(place, shown, args.jobs, only, not args.no_sweep, args.with_models))
        if args.dry_run:
            dry_run(table)
            return 0
        if args.report_only:
            write_report(grid, place.results, report)
            return 0
        table.say(table.status())
        if table.todo():
            prepare(grid, [run for run in grid.everything(table.known, not args.no_sweep) if table.wanted(run)])
            from s3router.asr import train

            train.preload()
        return table.make()
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
