"""Tidy tables: a row for each observation, a column for each variable."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3router.errors import DataError
from s3router.files import read_utf8


@dataclass(frozen=True)
class Table:
    """Rows of plain values.

    Attributes:
        name: of its file, without the ending.
        columns: names, in order.
        rows: values in this order; None and NaN are not known.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, name: str, rows: Iterable[Mapping[str, Any]]) -> Table:
        """From mappings with the same keys."""
        rows = list(rows)
        columns = tuple(rows[0]) if rows else ()
        return cls(name, columns, tuple(tuple(map(_plain, row.values())) for row in rows))

    def csv(self) -> str:
        """As comma-separated values; what is not known is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_cell(value) for value in row] for row in self.rows)
        return out.getvalue()

    def where(self, **wanted: Any) -> Table:
        """The rows with these values, without these columns."""
        keep = [n for n, column in enumerate(self.columns) if column not in wanted]
        rows = (row for row in self.rows if all(row[self.columns.index(name)] == v for name, v in wanted.items()))
        return Table(
            self.name, tuple(self.columns[n] for n in keep), tuple(tuple(row[n] for n in keep) for row in rows)
        )

    def only(self, columns: Sequence[str]) -> Table:
        """These columns."""
        places = [self.columns.index(column) for column in columns]
        return Table(self.name, tuple(columns), tuple(tuple(row[n] for n in places) for row in self.rows))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


UNMASKED = "none"
"""In the place of a route: the upstream without a mask."""


@dataclass(frozen=True)
class Pairs:
    """A measure of ordered pairs.

    Attributes:
        values: float64 (names, names), of a in the row and b in the column; NaN: not known.
        unmasked: float64 (names,), the same of `UNMASKED` and b.
    """

    values: np.ndarray
    unmasked: np.ndarray

    @property
    def symmetric(self) -> np.ndarray:
        """float64 (names, names): the mean of both orders, or the one that is known."""
        both = np.stack([self.values, self.values.T])
        known = np.isfinite(both)
        with np.errstate(invalid="ignore"):
            return np.where(known.any(0), np.where(known, both, 0).sum(0) / known.sum(0), np.nan)

    @property
    def levelled(self) -> Pairs:
        """Less the mean of each column, its diagonal left aside: without what is easy or hard about b."""
        others = np.where(np.eye(len(self.values), dtype=bool), np.nan, self.values)
        known = np.isfinite(others)
        with np.errstate(invalid="ignore"):
            means = np.where(known, others, 0).sum(0) / known.sum(0)
            rest = self.values - means
            rest[np.abs(rest) < 1e-12 * np.abs(means)] = 0  # rounding, which ranks would take for an order
        return Pairs(rest, self.unmasked - means)

    @property
    def is_ordered(self) -> bool:
        """Whether the order says something: two orders of a pair differ, or there is a row of `UNMASKED`."""
        known = np.isfinite(self.values) & np.isfinite(self.values.T)
        largest = np.abs(self.values[known]).max(initial=0)  # means of repeated rows differ in the last digits
        same = np.isclose(self.values, self.values.T, rtol=1e-9, atol=1e-12 * largest)
        return bool((known & ~same).any() or np.isfinite(self.unmasked).any())


def read_pairs(path: Path, known: Sequence[str]) -> Pairs:
    """A measure of pairs from a table with the columns ``a``, ``b`` and ``value``.

    Args:
        path: comma-separated values, with a header; rows of one pair, such as of several seeds, are averaged.
        known: the names that `a` and `b` may have; `a` may be `UNMASKED`, too.

    Raises:
        DataError: no text in UTF-8, no such columns, unknown names, or values that are no numbers.
        OSError: no such file.
    """
    rows = [*known, UNMASKED]
    sums, counts = (np.zeros((len(rows), len(known))) for _ in range(2))
    reader = csv.DictReader(io.StringIO(read_utf8(path), newline=""))
    if not {"a", "b", "value"} <= set(reader.fieldnames or ()):
        raise DataError(
            f"{path}: the columns a, b and value are needed, found {', '.join(reader.fieldnames or ['none'])}"
        )
    for number, row in enumerate(reader, 2):
        if lacking := [column for column in ("a", "b", "value") if row[column] is None]:
            raise DataError(f"{path}:{number}: the line ends before the column {lacking[0]}")
        unknown = [row[side] for side, names in (("a", rows), ("b", known)) if row[side] not in names]
        if unknown:
            raise DataError(f"{path}:{number}: no route {unknown[0]!r} among the packs; known: {', '.join(known)}")
        try:
            value = float(row["value"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{path}:{number}: {row['value']!r} is no number")
        sums[rows.index(row["a"]), known.index(row["b"])] += value
        counts[rows.index(row["a"]), known.index(row["b"])] += 1
    with np.errstate(invalid="ignore"):
        means = np.where(counts > 0, sums / counts, np.nan)
    return Pairs(means[:-1], means[-1])
