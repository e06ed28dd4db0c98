"""The verbs of ``s3router experiment``; all of them in the folder of the grid's runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError, DataError
from s3router.experiments.executors import Executor, LocalExecutor, SubmititExecutor
from s3router.experiments.forked import ForkExecutor
from s3router.experiments.grid import Cell, Grid
from s3router.experiments.grid_work import Choice, GridWork
from s3router.experiments.kinds import local
from s3router.experiments.one_run import RUN, CommandMain, make, read_run
from s3router.experiments.report import write_report
from s3router.experiments.results import Known
from s3router.experiments.routes import chosen, link_models
from s3router.experiments.routes_grid import Routes
from s3router.experiments.routes_measure import measure
from s3router.experiments.routes_page import write_page
from s3router.experiments.scheduler import Scheduler
from s3router.experiments.union import make_union, parts_of
from s3router.experiments.upstream_files import check_files


@dataclass(frozen=True)
class Resources:
    """Where runs are made, and how many at once.

    Attributes:
        gpus: each run sees one of them; empty: all see all.
        cluster: of submitit; None: this machine.
    """

    jobs: int = 2
    gpus: tuple[str, ...] = ()
    cluster: str | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)

    def threads(self) -> int:
        """OMP threads of each run."""
        return max(1, len(os.sched_getaffinity(0)) // self.jobs)


def launch(
    grid: Grid, choice: Choice, resources: Resources, command: CommandMain, report: Path | bool | None = None
) -> int:
    """Make what is missing, then write the page and draw its figures; returns the exit status.

    Args:
        report: the page; None: the grid's; False: none.

    Raises:
        ConfigError: ``--only`` matches no run.
        DataError: the upstream's files are missing.
    """
    check_files(grid.upstream, grid.upstream_ckpt, grid.folder)

    if "routes" in grid.raw:
        return launch_routes(grid, choice, resources, command)

    def write(known: Known) -> None:
        if report is not False:
            write_report(grid, known, report or grid.report)

    work = GridWork(grid, choice, write)
    work.check_only()
    for line in work.known.of_other_methods(work.plan().runs()):
        print(line)
    print(work.status(0, 0), flush=True)
    status = Scheduler(work, grid.runs, executor(grid, work, resources, command), resources.jobs).run()
    if report is not False and work.known.results:
        write_figures(grid)
        print(f"{write_table(grid, report or None)} is written", flush=True)
    blocked = [
        m for cell in work.plan().cells for m in cell.methods if choice.sweep and not work.plan().decided(m, cell)
    ]
    if blocked:
        names = ", ".join(dict.fromkeys(blocked))
        print(f"rows of {names} wait for sweeps that are not finished, that --only leaves out, or that failed")
    return status


def launch_routes(grid: Grid, choice: Choice, resources: Resources, command: CommandMain) -> int:
    """Make all runs of the routes, those that dev picks once more where their models are not here, and link to these.

    Returns:
        The exit status.

    Raises:
        ConfigError: ``--only`` matches no run.
        DataError: a model is not there after all.
    """
    work = GridWork(grid, choice)
    work.check_only()
    made = executor(grid, work, resources, command)
    if status := Scheduler(work, grid.runs, made, resources.jobs).run():
        return status
    runs = dict(chosen(grid, work.known, choice.sweep))
    names = "|".join(re.escape(run.name) for run in runs.values())
    again = GridWork(grid, replace(choice, only=re.compile(f"^({names})$"), models=True))
    if status := Scheduler(again, grid.runs, made, resources.jobs).run():
        return status
    link_models(grid, runs, Routes.of(grid.raw).work / "models")
    return 0


def executor(grid: Grid, work: GridWork, resources: Resources, command: CommandMain) -> Executor:
    """What starts the runs.

    Raises:
        ConfigError: more runs at once than GPUs, or settings that submitit refuses.
    """
    if resources.gpus and resources.jobs > len(resources.gpus):
        raise ConfigError(f"{resources.jobs} runs at once for {len(resources.gpus)} GPUs: each takes one.")
    if resources.cluster:
        return SubmititExecutor(grid.runs.resolve(), resources.cluster, resources.slurm)
    if not work.kind.in_process or resources.gpus or _on_gpu(grid):
        return LocalExecutor(resources.threads(), resources.gpus)
    # before torch is loaded, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(resources.threads()))

    def make_one(folder: Path) -> None:
        make(grid, read_run(folder), folder, command)

    return ForkExecutor(make_one, work.kind.preload, resources.threads(), resources.gpus)


def _on_gpu(grid: Grid) -> bool:
    """Whether runs compute on GPUs: a process that is forked after CUDA was asked for anything cannot use it."""
    options = [local(grid), *grid.methods.values(), *(cell.options for cell in grid.cells)]
    return any(o.get("ngpu") or str(o.get("device") or "cpu") != "cpu" for o in options)


def make_here(grid: Grid, name: str, command: CommandMain) -> None:
    """Make one run in this process, for a launcher elsewhere that has written it down."""
    folder = grid.runs / name
    if not (folder / RUN).is_file():
        raise ConfigError(
            f"{folder / RUN} is missing: a run is made here only where s3router experiment run has begun it"
        )
    make(grid, read_run(folder), folder, command)


def union_here(grid: Grid, at: Sequence[str]) -> Iterator[str]:
    """Put together the data of a place on the axes, given as ``axis=value``; yields what was made."""
    pairs = tuple(tuple(text.split("=", 1)) for text in at)
    method = next(iter(grid.methods))
    run = grid.run(Cell(pairs, (method,)), method, None, 0, {})
    if not parts_of(grid, run):
        raise ConfigError(f"{grid.path}: union has nothing for {' '.join(at)}")
    yield from make_union(grid, run)


def write_table(grid: Grid, output: Path | None = None) -> Path:
    """Write the page from the result files alone; returns its path.

    Raises:
        DataError: there are none, or the upstream's files are missing and these name several; the page stays as it is.
    """
    report = output or grid.report
    if not grid.upstream_id:  # not even the result files tell which weights their runs were made with
        check_files(grid.upstream, grid.upstream_ckpt, grid.folder)
    known = Known.read(grid.results, grid.select, grid.runs)
    if not known.results:
        raise DataError(f"{grid.results}: no result files here, so there is nothing to write {report} from")
    (write_page if "routes" in grid.raw else write_report)(grid, known, report)
    return report


def measure_routes(grid: Grid) -> Path:
    """Measure the finished models of the routes; returns the file that holds it."""
    if "routes" not in grid.raw:
        raise ConfigError(f"{grid.path} has no routes: there is nothing to measure")
    routes = Routes.of(grid.raw)
    measure(grid, routes)
    return routes.measured


def write_figures(grid: Grid) -> list[Path]:
    """Draw the figures from the result files alone; returns those that there was anything to draw for.

    Raises:
        DataError: there are no result files.
    """
    from s3router.experiments.plots import write_plots  # matplotlib takes a second

    known = Known.read(grid.results, grid.select)
    if not known.results:
        raise DataError(f"{grid.results}: no result files here, so there is nothing to draw")
    return [] if "routes" in grid.raw else write_plots(grid, known)
