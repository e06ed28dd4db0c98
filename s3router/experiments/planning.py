"""Plans of later runs from results so far: learning rates, sparsities, which rows get further seeds, and the order.

Everything here is a function of the grid and of what is known, so that a table that was killed goes on where it was,
and the report finds the runs it needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from s3router.experiments.grid import Cell, Grid, Run, place
from s3router.experiments.results import Known
from s3router.tuners.methods import METHODS

_FIRST = ("weight_lr", "score_lr", "adapter_lr", "upstream_lr", "head_lr", "lr")
_METHODS_IN_ORDER = ("frozen", *(name for name in METHODS if name not in ("frozen", "scratch")), "scratch")


@dataclass(frozen=True)
class Sweep:
    """The runs that decide one option of one method (or several together).

    Attributes:
        at: where on the axes.
        best: the values that won; None: not all are in.
        leading: the best of those that are in; None: none is.
    """

    method: str
    names: tuple[str, ...]
    at: tuple[tuple[str, Any], ...]
    runs: tuple[Run, ...]
    best: Mapping[str, Any] | None
    leading: Mapping[str, Any] | None = None


class Plan:
    """A grid, as far as results have decided it.

    Args:
        sweep: False: the first value of every list is used, nothing is swept.
        shown: for pages (`of_results`): what is undecided is taken as it stands, in place of waited for.
    """

    def __init__(self, grid: Grid, known: Known, sweep: bool = True, shown: bool = False):
        self.grid, self.known, self.sweep, self.shown = grid, known, sweep, shown
        self._swept: dict[tuple, list[Sweep]] = {}

    @classmethod
    def of_results(cls, grid: Grid, known: Known) -> Plan:
        """For pages, figures and the glance: by the result files alone, whatever failed on this machine.

        Where a sweep is undecided, rows have the best on dev of its values that are in.
        """
        return cls(grid, Known(known.results), shown=True)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The grid's cells; where only the best methods of a variant go on, with these (none while that is open)."""
        return tuple(replace(cell, methods=self._going_on(cell)) if cell.best else cell for cell in self.grid.cells)

    def _going_on(self, cell: Cell) -> tuple[str, ...]:
        """The methods of a cell of successive halving; in a page, while that is open, those that have results."""
        best = self._best_methods(cell)
        if best or not self.shown:
            return best
        return tuple(
            m
            for m in cell.methods
            if any(self.known.done(r) for row in cell.rows if row[0] == m for r in self.row(cell, *row))
        )

    def _best_methods(self, cell: Cell) -> tuple[str, ...]:
        """Successive halving (Jamieson and Talwalkar, AISTATS 2016): those that a smaller budget ranks first on dev."""
        sources = [other for other in self.grid.cells if (other.at, other.variant) == (cell.at, cell.best_of)]
        ranks: dict[str, tuple[float, float]] = {}
        for source, row in [(other, row) for other in sources for row in other.rows]:
            if row[0] not in cell.methods:
                continue
            first = self.row(source, *row)[0]
            if (self.sweep and not self.decided(row[0], source)) or not self.known.settled(first):
                return ()
            if self.known.done(first):
                ranks[row[0]] = min(self.rank(first), ranks.get(row[0], (float("inf"), 0.0)))
        chosen = sorted(ranks, key=ranks.get)[: cell.best]
        return tuple(method for method in cell.methods if method in chosen)

    def swept_names(self, method: str) -> list[str]:
        """The options of a method that are lists, in the order in which they are swept."""
        names = [name for name, value in self.grid.methods[method].items() if isinstance(value, list)]
        return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))

    def sweeps(self, method: str, cell: Cell) -> list[Sweep]:
        """The sweeps that decide about a method in a cell, up to the first not decided yet.

        In a page those behind it follow, from the best so far, as far as something of them is in.
        """
        at = place(cell, self.grid.sweep_at)
        if (method, at) not in self._swept:
            self._swept[method, at] = self._sweep(method, at)
        return self._swept[method, at]

    def _sweep(self, method: str, at: tuple) -> list[Sweep]:
        grid, names = self.grid, self.swept_names(method)
        cell = Cell(at, (method,))
        sparsity = grid.sweep_at.get("sparsity") if method in self._sparse() else None
        options, found = self.first_values(method), []
        groups = [tuple(names)] if grid.search == "all" and names else [(name,) for name in names]
        for group in groups:
            values = itertools.product(*(grid.methods[method][name] for name in group))
            changes = [dict(zip(group, each, strict=True)) for each in values]
            runs = tuple(grid.run(cell, method, sparsity, grid.seeds[0], {**options, **c}) for c in changes)
            done = {run: self.rank(run) for run in runs if self.known.done(run)}
            settled = done and all(map(self.known.settled, runs))
            leading = min(done, key=done.get).values(group) if done else None
            best = leading if settled else None
            open_before = any(sweep.best is None for sweep in found)
            if open_before and len(done) < 2:  # one of its values is what the sweep before it has left
                break
            found.append(Sweep(method, group, at, runs, best, leading))
            decided = leading if self.shown else best
            if decided is None:
                break
            options |= decided
        return found

    def _sparse(self) -> frozenset[str]:
        return self.grid.cells[0].sparse if self.grid.cells else frozenset()

    def first_values(self, method: str) -> dict[str, Any]:
        """A method's options, with the first of the values where there is a sweep."""
        return {n: value[0] if isinstance(value, list) else value for n, value in self.grid.methods[method].items()}

    def options(self, method: str, cell: Cell) -> dict[str, Any]:
        """A method's options with all that is swept decided; where that is open, the first of its values.

        In a page it is the best of those that are in; the first where none is.
        """
        found = self.first_values(method)
        for sweep in self.sweeps(method, cell):
            found |= (sweep.leading if self.shown else sweep.best) or {}
        return found

    def decided(self, method: str, cell: Cell) -> bool:
        """Whether everything that is swept for a method has been swept to the end."""
        decided = [name for sweep in self.sweeps(method, cell) if sweep.best is not None for name in sweep.names]
        return len(decided) == len(self.swept_names(method))

    def rank(self, run: Run) -> tuple[float, float]:
        """How good a finished run is on dev: the smaller the better."""
        return self.grid.figure.rank(self.known.results[run.key])

    def row(self, cell: Cell, method: str, sparsity: float | None) -> list[Run]:
        """The runs of a row, one for each seed, by what is known about learning rates so far."""
        options = self.grid.options(cell, self.options(method, cell))
        return [self.grid.run(cell, method, sparsity, seed, options) for seed in cell.seeds or self.grid.seeds]

    def best_sparsity(self, cell: Cell, method: str | None = None) -> float | None:
        """The sparsity that is best on dev with the first seed, of those that are in; None where none is.

        Args:
            method: of the methods that come at several sparsities; None: the first of them in the cell.
        """
        method = method or next((m for m in cell.methods if m in cell.sparse), None)
        first = {row[1]: self.row(cell, *row)[0] for row in cell.rows if row[0] == method and row[1] is not None}
        done = {sparsity: self.rank(run) for sparsity, run in first.items() if self.known.done(run)}
        return min(done, key=done.get) if done else None

    def together(self, cell: Cell) -> list[Cell]:
        """The cells of its place and variant, which make one table."""
        return [other for other in self.cells if (other.at, other.variant) == (cell.at, cell.variant)]

    def picked(self, cell: Cell, method: str) -> tuple[Cell, float | None]:
        """Where a method stands in the table of a cell: one of its cells, and the sparsity of them all that dev picks.

        The sparsity is None for methods without, and where none is in.
        """
        cells = [other for other in self.together(cell) if method in other.methods] or [cell]
        best = [(other, self.best_sparsity(other, method)) for other in cells if method in other.sparse]
        found = [(other, sparsity) for other, sparsity in best if sparsity is not None]
        if not found:
            return cells[0], None
        return min(found, key=lambda each: self.rank(self.row(each[0], method, each[1])[0]))

    def repeat_at(self, method: str, cell: Cell) -> tuple[float | None, ...]:
        """The sparsities at which a method that the grid repeats gets all seeds."""
        if method in self.grid.repeat_at:
            return self.grid.repeat_at[method]
        return (self.best_sparsity(cell, method) if method in cell.sparse else None,)

    def runs(self) -> list[Run]:
        """Every run that is known to be wanted, finished or not, in the order in which they should be made.

        Sweeps come first; rows of a method wait for its sweeps, further seeds for all first seeds of their method in
        the cell (where only the best sparsity gets them).
        """
        found: list[Run] = []
        if self.sweep:
            wanted = {(method, place(cell, self.grid.sweep_at)): cell for cell in self.cells for method in cell.methods}
            for (method, _), cell in sorted(wanted.items(), key=lambda item: _order(item[0][0])):
                found += [run for sweep in self.sweeps(method, cell) for run in sweep.runs]
        for cell in self.cells:
            ready = [method for method in cell.methods if not self.sweep or self.decided(method, cell)]
            rows = {row: self.row(cell, *row) for row in cell.rows if row[0] in ready}
            found += [row[0] for row in rows.values()]
            if self.grid.repeat is None:
                found += [run for row in rows.values() for run in row[1:]]
                continue
            for method in (method for method in ready if method in self.grid.repeat):
                settled = all(self.known.settled(row[0]) for (m, _), row in rows.items() if m == method)
                for sparsity in self.repeat_at(method, cell) if settled else ():
                    if (method, sparsity) in rows and self.known.done(rows[method, sparsity][0]):
                        found += rows[method, sparsity][1:]
        unique: dict[str, Run] = {}
        for run in found:
            unique.setdefault(run.key, run)
        return list(unique.values())

    def everything(self) -> list[Run]:
        """As `runs`, with invented results for runs still to come: as many runs as the whole table will have."""
        plan = self
        while True:
            runs = plan.runs()
            new = {run.key: {"dev": {self.grid.select: 9.9}} for run in runs if not plan.known.settled(run)}
            if not new:
                return runs
            plan = Plan(self.grid, Known({**plan.known.results, **new}, plan.known.failed), self.sweep)


def _order(method: str) -> int:
    return _METHODS_IN_ORDER.index(method) if method in _METHODS_IN_ORDER else len(_METHODS_IN_ORDER)
