"""Many masks on one backbone: which runs they come from, and links to their models by names that people know."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from s3router.errors import DataError
from s3router.experiments.grid import Cell, Grid, Run
from s3router.experiments.grid_work import finished
from s3router.experiments.one_run import RESULT
from s3router.experiments.planning import Plan
from s3router.experiments.results import Known
from s3router.experiments.routes_grid import Routes
from s3router.files import link


def chosen(grid: Grid, known: Known, sweep: bool = True) -> Iterator[tuple[str, Run]]:
    """(VALUE_METHOD or joint_METHOD, its run): weight finetuning, masks at the sparsity that dev picks, joint models.

    Raises:
        DataError: runs that decide about it are missing; they are named.
    """
    plan, routes = Plan(grid, known, sweep), Routes.of(grid.raw)
    for cell in grid.cells:
        rows = {row: plan.row(cell, *row)[0] for row in cell.rows}
        missing = [run.name for run in rows.values() if not known.done(run)]
        if missing:
            raise DataError(f"not finished: {', '.join(missing)}; run {routes.command} from stage 1 on")
        value = value_of(cell, routes)
        for method in cell.methods:
            best = plan.best_sparsity(cell, method) if method in cell.sparse else None
            yield f"{'joint' if value == routes.joint_value else value}_{method}", rows[method, best]


def value_of(cell: Cell, routes: Routes) -> str:
    """Which route a cell is of."""
    return dict(cell.at)[routes.axis]


def link_models(grid: Grid, runs: dict[str, Run], folder: Path) -> None:
    """``folder/NAME`` -> the folder of the run.

    Raises:
        DataError: a run's model is not there.
    """
    folders = {name: grid.runs / run.name for name, run in runs.items()}
    missing = [str(path) for path in folders.values() if not finished(path)]
    if missing:
        raise DataError(f"no model in {', '.join(missing)}; its {RESULT} or its best checkpoint is missing")
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in folders.items():
        link(folder / name, os.path.relpath(path.resolve(), folder.resolve()))
