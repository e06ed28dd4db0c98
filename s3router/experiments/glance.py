"""A few rows from several grids, side by side in a page of words: results at a glance, written by a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from s3router.errors import ConfigError, DataError
from s3router.experiments.figures import Figure
from s3router.experiments.grid import Cell, Grid
from s3router.experiments.grid_checks import listed
from s3router.experiments.markdown import NONE, table
from s3router.experiments.planning import Plan
from s3router.experiments.plots import write_dots
from s3router.experiments.results import Known
from s3router.experiments.rows import Row
from s3router.files import read_yaml, write_lines

_ROW = ("title", "grid", "figure")
_MORE = ("without",)
_SIZE = "kB"
"""A row's figure that is no error rate: what a pack of each column takes, without the output head."""


@dataclass(frozen=True)
class Line:
    """A row of the table: its figure in percent, or kB, for each column; None is not measured.

    Attributes:
        page: the page of results that it is taken from, from the folder of the page that it stands in.
        seeds: of the column that has the fewest.
        lower: whether less is better.
    """

    title: str
    figure: str
    page: str
    values: Mapping[str, float | None]
    seeds: int
    lower: bool = True


class Glance:
    """A file that names rows of grids, and the page whose marked part they fill.

    Args:
        path: YAML: ``page``, ``columns`` (title -> method), and ``rows``, each with ``title``, ``grid``, ``figure``
            (``wer``, ``cer``, …, or ``kB``), ``without`` (columns that it leaves empty), and values of the grid's axes;
            the mean is taken over axes that are not named. ``picture`` is drawn from the rows that are error rates.

    Raises:
        ConfigError: every problem found, in one message.
        OSError: a file cannot be read.
    """

    def __init__(self, path: Path):
        self.path, raw = path, read_yaml(path)
        if problems := list(_problems(raw)):
            raise ConfigError(f"{path}: {'; '.join(problems)}")
        self.page = path.parent / raw["page"]
        self.picture = path.parent / raw["picture"] if "picture" in raw else None
        self.columns: dict[str, str] = raw["columns"]
        self.rows: list[dict[str, Any]] = raw["rows"]
        self.marks = (f"<!-- {self._from_page(path)}: begin -->", f"<!-- {self._from_page(path)}: end -->")

    def _from_page(self, path: Path) -> str:
        return os.path.relpath(path, self.page.parent)

    def lines(self) -> Iterator[Line]:
        """The rows, from the result files alone. Raises ConfigError where a grid has no such place or figure."""
        methods: set[str] = set()
        for number, row in enumerate(self.rows, 1):
            grid = Grid.read(self.path.parent / row["grid"])
            at = {name: str(value) for name, value in row.items() if name not in (*_ROW, *_MORE)}
            cells = [c for c in grid.cells if not c.variant and not c.best and at.items() <= dict(c.at).items()]
            figure = next((f for f in grid.figures if f.name == row["figure"]), None)
            where = f"{self.path}: row {number}"
            if not cells:
                raise ConfigError(f"{where}: {grid.path} has no cell at {at}")
            if figure is None and row["figure"] != _SIZE:
                known = ", ".join([*(f.name for f in grid.figures), _SIZE])
                raise ConfigError(f"{where}: {row['figure']!r} is none of the figures of {grid.path} ({known})")
            methods |= grid.methods.keys()
            plan = Plan.of_results(grid, Known.read(grid.folder / grid.results, grid.select))
            left_out = listed(row.get("without", []))
            found = {c: [] if c in left_out else _rows(plan, cells, method) for c, method in self.columns.items()}
            values = {column: _value(rows, grid.tests[0], figure) for column, rows in found.items()}
            seeds = [row.seeds for column, rows in found.items() if values[column] is not None for row in rows]
            page = self._from_page(grid.folder / grid.report)
            heading, lower = (figure.heading, figure.lower) if figure else (_SIZE, True)
            yield Line(row["title"], heading, page, values, min(seeds, default=0), lower)
        if unknown := [name for name in self.columns.values() if name not in methods]:
            raise ConfigError(f"{self.path}: columns: no grid here has a method {', '.join(map(repr, unknown))}")

    def write(self) -> list[Path]:
        """Put the table between the marks of the page, and draw the picture; returns what was written.

        Raises:
            DataError: the page has no such marks.
        """
        page = self.page.read_text(encoding="utf-8").splitlines()
        if [line for line in page if line in self.marks] != list(self.marks):
            raise DataError(f"{self.page}: put the lines {' and '.join(self.marks)} where the table is to stand")
        begin, end = map(page.index, self.marks)
        lines = list(self.lines())
        write_lines(self.page, [*page[: begin + 1], *self.table(lines), *page[end:]])
        if self.picture is None:
            return [self.page]
        rates = [line for line in lines if line.figure != _SIZE and line.lower]
        write_dots({f"{line.title}, {line.figure} %": line.values for line in rates}, self.picture)
        return [self.page, self.picture]

    def table(self, lines: Iterable[Line]) -> list[str]:
        """Markdown; the best of each row in bold, with all that are equal to it as they are written."""
        body = []
        for line in lines:
            known = [value for value in line.values.values() if value is not None]
            best = _text((min if line.lower else max)(known), line.figure) if len(known) > 1 else None
            texts = [_text(value, line.figure) for value in line.values.values()]
            texts = [f"**{text}**" if text == best else text for text in texts]
            body.append([f"[{line.title}]({line.page})", line.figure, *texts, str(line.seeds or NONE)])
        return list(table(["", "test", *self.columns, "seeds"], body))


def _problems(raw: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in ("page", "columns", "rows") if name not in raw)
    yield from (f"unknown entry {name}" for name in raw if name not in ("page", "picture", "columns", "rows"))
    texts = {name: raw[name] for name in ("page", "picture") if name in raw}
    yield from (
        f"{name} must be a path, found {value!r}" for name, value in texts.items() if not isinstance(value, str)
    )
    columns, rows = raw.get("columns", {}), raw.get("rows", [])
    if not isinstance(columns, dict) or not isinstance(rows, list):
        yield "columns must be a mapping (title: method), and rows a list"
        return
    wrong = {title: method for title, method in columns.items() if not isinstance(method, str)}
    yield from (f"columns: {title}: {method!r} is no name of a method" for title, method in wrong.items())
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            yield f"row {number} must be a mapping, found {row!r}"
            continue
        if not isinstance(row.get("grid", ""), str):
            yield f"row {number}: grid must be a path, found {row['grid']!r}"
        yield from (f"row {number}: {name} is missing" for name in _ROW if name not in row)
        left_out = listed(row.get("without", []))
        yield from (
            f"row {number}: without {name!r}, which is no column" for name in left_out if name not in list(columns)
        )


def _rows(plan: Plan, cells: list[Cell], method: str) -> list[Row]:
    """The row of each place, masks at the sparsity that dev picks of all its cells."""
    places = {cell.at: plan.picked(cell, method) for cell in cells if method in cell.methods}
    return [Row(plan, cell, method, sparsity) for cell, sparsity in places.values()]


def _value(rows: list[Row], part: str, figure: Figure | None) -> float | None:
    """The mean over the cells, each of which must be in."""
    if figure is None:
        sizes = [row.pack_bytes for row in rows]
        return fmean(sizes) / 1000 if sizes and None not in sizes else None
    found = [row.figure(part, figure) for row in rows]
    return 100 * fmean(each.mean for each in found) if found and None not in found else None


def _text(value: float | None, figure: str) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if figure == _SIZE else f"{value:.1f}"
