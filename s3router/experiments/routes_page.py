"""The page of many masks on one backbone, from result files and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError
from s3router.experiments.figures import Figure
from s3router.experiments.grid import Grid
from s3router.experiments.markdown import interval, paragraph, table
from s3router.experiments.planning import Plan
from s3router.experiments.report import commits, versions_of
from s3router.experiments.results import Known
from s3router.experiments.routes import chosen
from s3router.experiments.routes_grid import SINGLE, Routes
from s3router.experiments.routes_measure import read_measured
from s3router.experiments.routes_sections import sections
from s3router.experiments.rows import METHOD_NAMES, RATE_NAMES
from s3router.files import write_lines
from s3router.scoring.stats import bootstrap_counts

Counts = Mapping[str, list[int]]
"""utterance -> [words, word errors, characters, character errors]"""
_NAMES = {"weight": "weight finetuning", "router": "S3-Router"}
_JOINT_NAMES = {"weight": "joint, weight finetuning", "frozen": "joint, head only", "router_p": "joint, pruned"}


@dataclass(frozen=True)
class System:
    """One column of the table: a way to serve all routes.

    Attributes:
        counts: route -> its test utterances.
        results: the result files of its runs, one for each route, or one alone (joint).
    """

    name: str
    counts: dict[str, Counts]
    results: list[dict[str, Any]]

    def rate(self, figure: Figure, route: str) -> float:
        """Errors of all utterances over their words (or characters)."""
        total, wrong = figure.counts
        rows = self.counts[route].values()
        return sum(row[wrong] for row in rows) / sum(row[total] for row in rows)

    def mean(self, figure: Figure) -> float:
        """Mean over the routes, each counting the same."""
        return sum(self.rate(figure, route) for route in self.counts) / len(self.counts)

    def pooled(self, figure: Figure) -> tuple[list[int], list[int]]:
        """(errors, totals) of the utterances of all routes, in one order for every system."""
        total, wrong = figure.counts
        rows = [self.counts[route][utt] for route in sorted(self.counts) for utt in sorted(self.counts[route])]
        return [row[wrong] for row in rows], [row[total] for row in rows]


class Page:
    """All that the page shows.

    Raises:
        ConfigError: the grid has no single models of a method that is compared.
        DataError: a run is not finished, or what was measured is of other settings.
    """

    def __init__(self, grid: Grid, known: Known, sweep: bool = True):
        self.grid, self.known, self.routes = grid, known, Routes.of(grid.raw)
        if lacking := [method for method in SINGLE if method not in self.routes.single]:
            raise ConfigError(
                f"{grid.path}: a page would compare single models with the joint ones, and routes: single has no "
                f"{', '.join(lacking)}; the joint models' own page is written by {self.routes.command}"
            )
        self.plan = Plan(grid, known, sweep)
        self.measured = read_measured(grid, self.routes)
        found = {name: known.results[run.key] for name, run in chosen(grid, known, sweep)}
        self.weight, self.router = (self._single(method, found) for method in SINGLE)
        if self.measured:
            self.router = System(self.router.name, self.measured["routed"], self.router.results)
        self.joint = [self._joint(method, found[f"joint_{method}"]) for method in self.routes.joint]
        self.systems = [self.weight, self.router, *self.joint]

    def _single(self, method: str, found: Mapping[str, dict]) -> System:
        results = {route: found[f"{route}_{method}"] for route in self.routes.values}
        counts = {route: result["test"]["utts"] for route, result in results.items()}
        return System(_NAMES[method], counts, list(results.values()))

    def _joint(self, method: str, result: dict) -> System:
        """A jointly trained model, its test utterances told apart by route.

        Raises:
            DataError: its test set is not made of the routes' own.
        """
        from s3router.errors import DataError

        every, own = result["test"]["utts"], self.weight.counts
        if sorted(every) != sorted(utt for counts in own.values() for utt in counts):
            names = " ".join(self.routes.values)
            raise DataError(f"the test set of {result['name']} is not made of those of {names}; remove its result file")
        counts = {route: {utt: every[utt] for utt in utts} for route, utts in own.items()}
        return System(_JOINT_NAMES[method], counts, [result])

    def title(self, route: str) -> str:
        """What a route is called."""
        return str(self.grid.axes[self.routes.axis][route])


def write_page(grid: Grid, known: Known, report: Path) -> None:
    """Write the page. Words of explanation are taken from the grid's ``notes``, a file."""
    page = Page(grid, known)
    notes = Path(grid.raw.get("notes", grid.results / "notes_routes.md"))
    lines = list(_head(page))
    if notes.is_file() and not grid.trial:
        lines += [*notes.read_text(encoding="utf-8").splitlines(), ""]
    lines += [*_error_rates(page), ""]
    if page.measured:
        lines += sections(page.measured, page.routes, page.title)
    elif page.routes.kept and page.routes.kept.is_file():
        lines += [*page.routes.kept.read_text(encoding="utf-8").rstrip().splitlines(), ""]
    else:
        lines += [
            f"Not measured yet (`{page.routes.command}`): transcripts through one router, sizes, languages found.",
            "",
        ]
    write_lines(report, [*lines, *_origin(page)])


def _head(page: Page) -> Iterator[str]:
    grid, routes = page.grid, page.routes
    yield "# Many languages, one backbone"
    yield ""
    if grid.trial:
        yield f"**A trial of {grid.overrides.max_updates} updates: its figures say nothing but that it runs.**"
        yield ""
    labelled = ", ".join(str(grid.axes[axis][value]) for axis, value in routes.at.items())
    yield from paragraph(
        f"Written by `{routes.command}`. {', '.join(map(page.title, routes.values))}; of each {labelled} of labelled",
        f"speech; upstream `{grid.upstream}`; one seed ({routes.seed}), so the spread over seeds is not known. Error",
        "rates in percent on **test**, by greedy decoding without a language model. Everything is selected on",
        "**dev** (checkpoints, learning rates, sparsities); test is only read.",
        *_not_swept(page),
    )
    yield ""


def _not_swept(page: Page) -> list[str]:
    methods = dict.fromkeys((*SINGLE, *page.routes.joint))
    found = [METHOD_NAMES[m] for m in methods if not page.plan.decided(m, page.grid.cells[0])]
    return (
        [f"**Learning rates of {', '.join(found)} were not swept**: they are the first in the grid."] if found else []
    )


def _error_rates(page: Page) -> Iterator[str]:
    routes = page.routes
    yield "## Error rates"
    yield ""
    sparsity = dict(zip(routes.values, (result["sparsity"] for result in page.router.results), strict=True))
    for figure in page.grid.figures:
        body = []
        for route in routes.values:
            rates = [f"{100 * system.rate(figure, route):.1f}" for system in page.systems]
            body.append([page.title(route), *rates, f"{sparsity[route]:.2f}"])
        body.append(["mean", *(f"{100 * system.mean(figure):.1f}" for system in page.systems), ""])
        header = [f"test {figure.heading}", *(system.name for system in page.systems), "sparsity"]
        yield from table(header, body)
        yield ""
    count = len(routes.values)
    through = (
        "the figures those of `s3router transcribe --score`"
        if page.measured
        else "the figures those of the single models"
    )
    yield from paragraph(
        f"Weight finetuning: {count} models. S3-Router: one resident backbone with {count} packs, {through}. Joint:",
        "one model, trained on the labelled speech of all languages together, with the union of their characters; it",
        f"is not told the language. {_joint_updates(page)}",
    )
    yield ""
    yield from paragraph(
        "S3-Router minus the others, in points over the test utterances of all languages, with the 95 % interval",
        "of a paired bootstrap over utterances (below 0: S3-Router is better; it says nothing about other seeds):",
    )
    yield ""
    others = [page.weight, *page.joint]
    body = [[other.name, *(_against(page.router, other, figure) for figure in page.grid.figures)] for other in others]
    yield from table(["S3-Router minus", *(figure.heading for figure in page.grid.figures)], body)


def _joint_updates(page: Page) -> str:
    if not page.joint:
        return "None were trained."
    each = " and ".join(f"{s.results[0]['updates']:,} updates ({s.name.split(', ')[1]})" for s in page.joint)
    alone = page.weight.results[0]["updates"]
    how = {"all": "as many as the single models of the method together", "one": "as many as one single model"}
    return (
        f"They took {each}: {how[page.routes.joint_updates]} (weight finetuning of one language: {alone:,}). "
        "Their learning rates are those of the results table; none were swept for them."
    )


def _against(router: System, other: System, figure: Figure) -> str:
    (mine, total), (theirs, _) = router.pooled(figure), other.pooled(figure)
    return interval(bootstrap_counts(mine, theirs, total))


def _origin(page: Page) -> Iterator[str]:
    yield "## How these were made"
    yield ""
    routes = page.routes
    candidates = {
        dict(cell.at)[routes.axis]: ", ".join(f"{s:.2f}" for s in cell.sparsities)
        for cell in page.grid.cells
        if cell.sparsities
    }
    yield f"- `{routes.command}`; upstream files {page.grid.upstream_id or 'of a download'}."
    yield f"- Sparsities that dev could pick: {'; '.join(f'{route} {each}' for route, each in candidates.items())}."
    for system in page.systems:
        rates = {tuple(result["lrs"].items()) for result in system.results}
        told = "; ".join(", ".join(f"{RATE_NAMES[n]} {v:g}" for n, v in pairs) for pairs in sorted(rates))
        updates = ", ".join(f"{r['updates']:,} (best at {r['best_update']:,})" for r in system.results)
        yield f"- {system.name}: learning rates {told}; updates {updates}."
    results = [result for system in page.systems for result in system.results]
    dates = sorted(result["date"] for result in results)
    hours = sum(result["seconds"] for result in results) / 3600
    said = commits(results)
    yield f"- {len(results)} runs; {said[0].lower()}{said[1:]}"
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    yield f"- {days}. Training took {hours:.1f} hours; sweeps and other sparsities come on top."
    yield from versions_of(results)
