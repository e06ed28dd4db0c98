"""RESULTS.md and its plots, from the grid and the result files alone; they can be written again at any time."""

from __future__ import annotations

import collections
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from grid import Cell, Grid, Known, Run, Sweep

from s3router.files import write_lines
from s3router.scoring.stats import Difference, MeanSpread, bootstrap_counts, mean_spread

NONE = "–"
LANGUAGES = {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian"}
SUBSETS = {"2min": "2 minutes", "5min": "5 minutes", "all": "all of train"}
METHOD_NAMES = {
    "scratch": "from scratch (random upstream)",
    "frozen": "frozen (head only)",
    "weight": "weight finetuning",
    "router": "S3-Router",
}
RATE_NAMES = {"weight_lr": "weights", "score_lr": "scores", "head_lr": "head"}


class Row:
    """A row of the table: the runs of a method (at a sparsity) in a cell, those that are in."""

    def __init__(self, grid: Grid, cell: Cell, method: str, sparsity: float | None, known: Known):
        self.method, self.sparsity = method, sparsity
        self.found = [known.results[r.key] for r in grid.row(cell, method, sparsity, known) if known.done(r)]

    @property
    def seeds(self) -> int:
        return len(self.found)

    def figure(self, part: str, metric: str) -> MeanSpread | None:
        """Mean and spread over the seeds that are in; None when none is."""
        return mean_spread([result[part][metric] for result in self.found]) if self.found else None

    def percent(self, part: str, metric: str) -> str:
        figure = self.figure(part, metric)
        return figure.percent() if figure else NONE


def write_report(grid: Grid, results_dir: Path, report: Path) -> None:
    """Write `report` and, beside the result files, the plots.

    Words of explanation are taken from ``notes.md`` among the result files, where there is one.
    """
    from plots import learning_curves, sparsity_curve  # matplotlib takes a second

    known = Known.read(results_dir)
    results_dir.mkdir(parents=True, exist_ok=True)
    curve, learning = results_dir / "sparsity_curve.png", results_dir / "learning_curves.png"
    cell = max(grid.cells, key=lambda cell: len(cell.sparsities))
    rows = [Row(grid, cell, *row, known) for row in cell.rows]
    title = f"{describe(cell)}: error rates on test over the share of weights removed"
    best_sparsity = grid.best_sparsity(cell, known)
    drawn = {curve: sparsity_curve(rows, best_sparsity, title, curve)}
    best = [("frozen", None), ("weight", None), ("router", best_sparsity), ("scratch", None)]
    picked = [row for row in rows if (row.method, row.sparsity) in best]
    drawn[learning] = learning_curves(picked, f"{describe(cell)}: training, first seed", learning)
    images = [path.relative_to(report.parent) for path, done in drawn.items() if done]
    notes = results_dir / "notes.md"
    lines = [*_head(grid), *(notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []), ""]
    lines += [*_summary(grid, known), ""]
    lines += [line for path in images for line in (f"![{path.stem.replace('_', ' ')}]({path})", "")]
    for cell in grid.cells:
        lines += [*_cell_table(grid, cell, known), ""]
    lines += [*_sweeps(grid, known), "", *_origin(grid, known)]
    write_lines(report, lines)


def describe(cell: Cell) -> str:
    """Like "English, 5 minutes"."""
    text = f"{LANGUAGES.get(cell.lang, cell.lang)}, {SUBSETS.get(cell.subset, cell.subset)}"
    return f"{text} ({cell.variant})" if cell.variant else text


def _head(grid: Grid) -> list[str]:
    return [
        "# Results",
        "",
        "Written by `./run_table.sh` from `results/*.json`; words in between: `results/notes.md`. Error rates are in",
        "percent on **test**, by greedy decoding without a language model. Everything is selected on **dev**: the",
        f"checkpoint of a run (by CER), learning rates and sparsity (by {grid.select.upper()}). Test is only read.",
        f"± is the standard deviation over seeds; {NONE} is not measured yet.",
        "",
    ]


def _summary(grid: Grid, known: Known) -> Iterator[str]:
    yield "## Weight finetuning against S3-Router at the sparsity that dev picks"
    yield ""
    header = ["", "frozen WER", "weight WER", "S3-Router WER", "frozen CER", "weight CER", "S3-Router CER", "sparsity"]
    body = []
    for cell in grid.cells:
        best = grid.best_sparsity(cell, known)
        rows = {m: Row(grid, cell, m, best if m == "router" else None, known) for m in ("frozen", "weight", "router")}
        texts = {m: {x: row.percent("test", x) for x in ("wer", "cer")} for m, row in rows.items()}
        for metric in ("wer", "cer"):
            figures = {m: row.figure("test", metric).mean for m, row in rows.items() if row.found}
            if figures.keys() >= {"weight", "router"}:
                winner = min(figures, key=figures.get)
                texts[winner][metric] = f"**{texts[winner][metric]}**"
        cells = [texts[m][metric] for metric in ("wer", "cer") for m in rows]
        body.append([describe(cell), *cells, NONE if best is None else f"{best:.2f}"])
    yield from markdown(header, body)
    yield ""
    yield "S3-Router minus weight finetuning, in points, with the 95 % interval of a paired bootstrap over the test"
    yield "sentences (errors averaged over seeds; below 0: S3-Router is better):"
    yield ""
    body = []
    for cell in grid.cells:
        best = grid.best_sparsity(cell, known)
        found = [difference(grid, cell, best, known, metric) for metric in ("wer", "cer")]
        body.append([describe(cell), *(_interval(d) for d in found)])
    yield from markdown(["", "WER", "CER"], body)


def difference(grid: Grid, cell: Cell, sparsity: float | None, known: Known, metric: str) -> Difference | None:
    """Router at `sparsity` minus weight finetuning on test; None while either is missing."""
    if sparsity is None:
        return None
    systems = [Row(grid, cell, "router", sparsity, known).found, Row(grid, cell, "weight", None, known).found]
    if not all(systems):
        return None
    utts = [result["test"]["utts"] for system in systems for result in system]
    if any(other.keys() != utts[0].keys() for other in utts):
        return None  # the corpus has changed between these runs; the report says so elsewhere
    total, wrong = (0, 1) if metric == "wer" else (2, 3)
    errors = [
        [sum(result["test"]["utts"][utt][wrong] for result in system) / len(system) for utt in utts[0]]
        for system in systems
    ]
    return bootstrap_counts(*errors, [utts[0][utt][total] for utt in utts[0]])


def _interval(found: Difference | None) -> str:
    if found is None:
        return NONE
    return f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _cell_table(grid: Grid, cell: Cell, known: Known) -> Iterator[str]:
    yield f"## {describe(cell)}"
    yield ""
    best = grid.best_sparsity(cell, known)
    body = []
    for row in (Row(grid, cell, *row, known) for row in sorted(cell.rows, key=_row_order)):
        name = METHOD_NAMES[row.method]
        if row.method == "router":
            name += f", {100 * row.sparsity:.0f} % removed" + (" ← dev" if row.sparsity == best else "")
        cells = [
            row.percent("test", "wer"),
            row.percent("test", "cer"),
            row.percent("dev", "wer"),
            row.percent("dev", "cer"),
        ]
        if row.found:
            taken = f"{row.found[0]['updates']:,} ({', '.join(str(r['best_update']) for r in row.found)})"
            minutes = f"{sum(r['seconds'] for r in row.found) / row.seeds / 60:.0f}"
            rates = ", ".join(f"{RATE_NAMES[n]} {v:g}" for n, v in row.found[0]["lrs"].items())
            cells += [str(row.seeds), taken, rates, minutes, f"{max(r['peak_rss_mb'] for r in row.found) / 1024:.1f}"]
        else:
            cells += [NONE] * 5
        body.append([name, *cells])
    header = ["", "test WER", "test CER", "dev WER", "dev CER", "seeds", "updates (best at)", "learning rates"]
    yield from markdown([*header, "minutes", "peak GB"], body)
    sizes = {(r["test"]["n_utts"], r["test"]["n_words"]) for r in known.results.values() if r["lang"] == cell.lang}
    if len(sizes) == 1:
        utts, words = next(iter(sizes))
        yield ""
        yield f"Test: {utts} sentences, {words} words."
    elif sizes:
        yield ""
        yield f"**The test set has changed between these runs ({sizes}): their figures do not compare.**"


def _row_order(row: tuple[str, float | None]) -> tuple[int, float]:
    return list(METHOD_NAMES).index(row[0]), row[1] or 0.0


def _sweeps(grid: Grid, known: Known) -> Iterator[str]:
    lang, subset, sparsity = grid.sweep_at
    cell = Cell(lang, subset, ())
    yield "## Learning rates"
    yield ""
    yield f"Swept on {describe(cell)} (S3-Router at sparsity {sparsity}), one rate after the other, chosen by"
    yield f"{grid.select.upper()} on dev and used in every row above. The best stands in bold."
    yield ""
    body = []
    for method in grid.methods:
        for sweep in grid.sweeps(method, known):
            runs = sorted(sweep.runs, key=lambda run: run.rates[sweep.rate])
            cells = [_sweep_cell(sweep, run, known, grid.select) for run in runs]
            if sweep.best in (runs[0].rates[sweep.rate], runs[-1].rates[sweep.rate]):
                cells.append("(the best lies at the edge)")
            body.append([METHOD_NAMES[method], RATE_NAMES[sweep.rate], " · ".join(cells)])
    yield from markdown(["", "learning rate of", f"value: dev {grid.select.upper()}"], body)


def _sweep_cell(sweep: Sweep, run: Run, known: Known, metric: str) -> str:
    value = run.rates[sweep.rate]
    text = f"{value:g}: {100 * known.results[run.key]['dev'][metric]:.1f}" if known.done(run) else f"{value:g}: {NONE}"
    return f"**{text}**" if value == sweep.best else text


def _origin(grid: Grid, known: Known) -> Iterator[str]:
    plan = {run.key for run in grid.plan(known)} | {run.key for run in grid.plan(known, sweep=False)}
    mine = [result for key, result in known.results.items() if key in plan]
    yield "## How these were made"
    yield ""
    wanted = len(grid.everything(known))
    yield f"- `./run_table.sh` with `conf/table.yaml`; {len(mine)} of about {wanted} runs are in."
    if not mine:
        return
    yield f"- Upstream `{grid.upstream}`, files {grid.upstream_id or 'of a download'}."
    commits = collections.Counter(result["commit"] for result in mine)
    named = ", ".join(f"{commit} ({count})" for commit, count in commits.most_common())
    yield f"- Commits (runs): {named}; “+” marks code that was changed after that commit."
    dates = sorted(result["date"] for result in mine)
    hours = sum(result["seconds"] for result in mine) / 3600
    yield f"- Dates: {dates[0]} to {dates[-1]}. Training took {hours:.1f} hours in all."
    for versions in {tuple(result["versions"].items()) for result in mine}:
        yield f"- {', '.join(f'{name} {version}' for name, version in versions)}."
    others = len(known.results) - len(mine)
    if known.failed:
        yield f"- {len(known.failed)} runs failed; `results/failed.txt` names them."
    if others:
        yield f"- {others} further result files are of other settings or upstreams and are not shown."
    yield "- The exact command of each run stands in its result file. One of each method:"
    yield ""
    yield "```"
    for method in grid.methods:
        example = next((result for result in mine if result["method"] == method), None)
        if example:
            yield " ".join(shlex.split(example["command"], posix=False))
    yield "```"


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table whose columns line up in the source, too; the first column to the left, the others to the right."""
    table = [list(header), *map(list, body)]
    widths = [max(3, *(len(row[column]) for row in table)) for column in range(len(header))]
    for number, row in enumerate(table):
        aligned = [
            text.ljust(w) if not c else text.rjust(w) for c, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"| {' | '.join(aligned)} |"
        if number == 0:
            yield "|" + "|".join("-" * (w + 2) if not c else "-" * (w + 1) + ":" for c, w in enumerate(widths)) + "|"
