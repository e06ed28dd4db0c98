"""Rows of a table: the runs of a method (at a sparsity) in a cell, their figures, and differences between two."""

from __future__ import annotations

from collections.abc import Sequence

from s3router.experiments.figures import Figure
from s3router.experiments.grid import Cell, Grid
from s3router.experiments.markdown import NONE
from s3router.experiments.planning import Plan
from s3router.scoring.stats import Difference, MeanSpread, bootstrap_means, mean_spread
from s3router.tuners.methods import METHODS

METHOD_NAMES = {name: method.title for name, method in METHODS.items()}
RATE_NAMES = {
    "weight_lr": "weights",
    "score_lr": "scores",
    "adapter_lr": "additions",
    "head_lr": "head",
    "lr": "head",
    "upstream_lr": "upstream",
}


def describe(grid: Grid, cell: Cell) -> str:
    """Like "English, 5 minutes"."""
    text = ", ".join(str(grid.axes[axis][value]) for axis, value in cell.at) or "All runs"
    return f"{text} ({cell.variant})" if cell.variant else text


def title_of(grid: Grid, method: str) -> str:
    """What a method is called in tables."""
    return grid.titles.get(method) or METHOD_NAMES.get(method, method)


def short_title(grid: Grid, method: str) -> str:
    """The same in the heading of a column."""
    if method in grid.titles:
        return grid.titles[method]
    return METHOD_NAMES[method] if method == "router" else method


def named(grid: Grid, rows: Sequence[tuple[str, float | None]]) -> str:
    """Like "DoRA; S3-Router, 5 and 20 % removed" of (method, sparsity)."""
    removed: dict[str, list[float | None]] = {}
    for method, sparsity in rows:
        removed.setdefault(title_of(grid, method), []).append(sparsity)
    words = []
    for title, sparsities in removed.items():
        shares = [f"{100 * sparsity:.0f}" for sparsity in sparsities if sparsity is not None]
        listed = " and ".join([", ".join(shares[:-1]), shares[-1]] if len(shares) > 1 else shares)
        words.append(f"{title}, {listed} % removed" if shares else title)
    return "; ".join(words)


class Row:
    """A row of a table, with those of its runs that are in."""

    def __init__(self, plan: Plan, cell: Cell, method: str, sparsity: float | None):
        self.method, self.sparsity = method, sparsity
        self.runs = plan.row(cell, method, sparsity)
        self.found = [plan.known.results[run.key] for run in self.runs if plan.known.done(run)]

    @property
    def seeds(self) -> int:
        """How many runs are in."""
        return len(self.found)

    @property
    def pack_bytes(self) -> int | None:
        """Bytes of what a pack holds of the upstream: masks, weights, additions; a mean. None where it is not known."""
        sizes = [result["pack_bytes"] for result in self.found if result.get("pack_bytes")]
        parts = [sum(size.get(part, 0) for part in ("masks", "delta", "adapter")) for size in sizes]
        return round(sum(parts) / len(parts)) if parts else None

    def figure(self, part: str, figure: Figure) -> MeanSpread | None:
        """Mean and spread over the runs that are in; None where none is."""
        values = [result[part][figure.name] for result in self.found if figure.name in result.get(part, {})]
        return mean_spread(values) if values else None

    def percent(self, part: str, figure: Figure) -> str:
        """The same in percent; of one run's accuracy with its 95 % interval over the utterances (Wilson)."""
        found = self.figure(part, figure)
        if found is None:
            return NONE
        interval = self.found[0].get(part, {}).get("interval")
        if self.seeds == 1 and interval and figure.name == "accuracy":
            return f"{found.percent()} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
        return found.percent()


def difference(a: Row, b: Row, part: str, figure: Figure) -> Difference | None:
    """Figure of `a` minus that of `b`, by a paired bootstrap over the utterances; errors are averaged over the seeds.

    None while either is missing, where the figure has no counts, or where the sets were not the same.
    """
    return mean_difference([(a, b)], part, figure)


def mean_difference(pairs: Sequence[tuple[Row, Row]], part: str, figure: Figure) -> Difference | None:
    """The same in the mean over several places, such as languages, whose test sets are redrawn each by itself."""
    sets = [_counts(a, b, part, figure) for a, b in pairs]
    if not sets or None in sets:
        return None
    found = bootstrap_means(sets)
    if figure.lower:
        return found
    return Difference(-found.difference, -found.high, -found.low, found.level, 1 - found.a_better)


def _counts(a: Row, b: Row, part: str, figure: Figure) -> tuple[list[float], list[float], list[float]] | None:
    """Errors of either per utterance, and what they are counted out of."""
    if figure.counts is None or not a.found or not b.found:
        return None
    systems = [[result.get(part, {}).get("utts") for result in row.found] for row in (a, b)]
    utts = [each for system in systems for each in system]
    if not all(utts) or any(other.keys() != utts[0].keys() for other in utts):
        return None  # the corpus has changed between these runs; the report says so elsewhere
    total, wrong = figure.counts
    errors = [[sum(each[utt][wrong] for each in system) / len(system) for utt in utts[0]] for system in systems]
    return *errors, [utts[0][utt][total] for utt in utts[0]]
