"""Means over the values of an axis, such as languages or the folds of a cross-validation, in a grid's page."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from s3router.experiments.grid import Cell, Pairs
from s3router.experiments.markdown import NONE, interval, paragraph, table
from s3router.experiments.planning import Plan
from s3router.experiments.rows import Row, describe, mean_difference, named, short_title, title_of


def averages(plan: Plan, axis: str) -> Iterator[str]:
    """A table for each place on the other axes: every value of `axis` counts as much as another."""
    grid, part = plan.grid, plan.grid.tests[0]
    against = grid.raw.get("table", {}).get("against")
    yield f"## Means over {axis}"
    yield ""
    if against:
        several = any(against in cell.sparse and len(cell.sparsities) > 1 for cell in plan.cells)
        where = ", at the sparsity that dev picks" if several else ""
        yield from paragraph(
            f"In the last columns: minus {title_of(grid, against)}{where}, in points, with the 95 % interval of a",
            "paired bootstrap over the test utterances of each.",
        )
        yield ""
    for (at, variant), cells in _places(plan, axis).items():
        place = describe(grid, Cell(at, (), variant=variant)) if at or variant else ""
        rows = _rows(plan, cells)
        base = _base(plan, cells, against)
        body, waiting = [], []
        for (method, sparsity), here in rows.items():
            found = list(here.values())
            name = title_of(grid, method) + ("" if sparsity is None else f", {100 * sparsity:.0f} % removed")
            values = [[row.figure(part, f).mean for row in found if row.figure(part, f)] for f in grid.figures]
            if not all(row.found for row in found):
                waiting.append((method, sparsity))
                continue
            texts = [f"{100 * fmean(v):.1f}" if v else NONE for v in values]
            if base:
                same = all((method, sparsity) == (row.method, row.sparsity) for row in base.values())
                pairs = [(row, base[at]) for at, row in here.items()] if base.keys() == here.keys() else []
                texts += ["" if same else interval(mean_difference(pairs, part, f)) for f in grid.figures]
            body.append([name, *texts, str(len(found))])
        header = [place, *(f"{part} {figure.heading}" for figure in grid.figures)]
        header += [f"{figure.heading} minus {short_title(grid, against)}" for figure in grid.figures] if base else []
        if body:
            yield from table([*header, axis], body)
            yield ""
        if waiting:
            yield from paragraph(
                f"Not run yet for all of these{f' ({place})' if place else ''}: {named(grid, waiting)}."
            )
            yield ""


def _places(plan: Plan, axis: str) -> dict[tuple[Pairs, str], list[Cell]]:
    """(place on the other axes, variant) -> its cells."""
    found: dict[tuple[Pairs, str], list[Cell]] = {}
    for cell in plan.cells:
        at = tuple((name, value) for name, value in cell.at if name != axis)
        found.setdefault((at, cell.variant), []).append(cell)
    return found


def _rows(plan: Plan, cells: list[Cell]) -> dict[tuple[str, float | None], dict[Pairs, Row]]:
    """(method, sparsity) -> its row at each place that has it."""
    found: dict[tuple[str, float | None], dict[Pairs, Row]] = {}
    for cell in cells:
        for row in cell.rows:
            found.setdefault(row, {}).setdefault(cell.at, Row(plan, cell, *row))
    return found


def _base(plan: Plan, cells: list[Cell], against: str | None) -> dict[Pairs, Row]:
    """The row that others are held against at each place: masks at the sparsity that dev picks there."""
    found: dict[Pairs, Row] = {}
    for cell in (cell for cell in cells if against in cell.methods):
        where, sparsity = plan.picked(cell, against)
        if sparsity is not None or against not in cell.sparse:
            found.setdefault(cell.at, Row(plan, where, against, sparsity))
    return found
