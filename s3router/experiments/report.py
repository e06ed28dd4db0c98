"""The page of a grid, from the grid and the result files alone; it can be written again at any time."""

from __future__ import annotations

import collections
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from s3router.experiments.averages import averages
from s3router.experiments.figures import Figure
from s3router.experiments.grid import Cell, Grid, place
from s3router.experiments.markdown import NONE, interval, paragraph, table
from s3router.experiments.planning import Plan, Sweep
from s3router.experiments.results import Known
from s3router.experiments.rows import METHOD_NAMES, RATE_NAMES, Row, describe, difference, named, short_title, title_of
from s3router.files import write_lines

PLOTS = ("sparsity_curve", "learning_curves")


def write_report(grid: Grid, known: Known, report: Path) -> None:
    """Write `report`. Words of explanation are taken from the grid's ``notes``, a file."""
    plan = Plan.of_results(grid, known)
    notes = Path(grid.raw.get("notes", grid.results / "notes.md"))
    lines = [*_head(grid), *(notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else []), ""]
    if len(grid.methods) > 1 and grid.raw.get("table", {}).get("summary") != []:
        lines += [*_summary(plan), ""]
    lines += [line for path in plots_of(grid) if path.is_file() for line in _image(path, report)]
    if average := grid.raw.get("table", {}).get("average"):
        lines += averages(plan, str(average))
    for cells in _tables(plan):
        lines += [*_table_of(plan, cells), ""]
    lines += [*_sweeps(plan), *_origin(plan, known)]
    write_lines(report, lines)


def _tables(plan: Plan) -> list[list[Cell]]:
    """The cells of each table, in the order in which their places come first."""
    found: dict[tuple, list[Cell]] = {}
    for cell in plan.cells:
        found.setdefault((cell.at, cell.variant), []).append(cell)
    return list(found.values())


def plots_of(grid: Grid) -> list[Path]:
    """The figures, beside the result files."""
    return [grid.results / f"{name}.png" for name in PLOTS]


def _image(path: Path, report: Path) -> tuple[str, str]:
    return f"![{path.stem.replace('_', ' ')}]({os.path.relpath(path, report.parent)})", ""


def command(grid: Grid, verb: str) -> str:
    """The command for this grid, as called from the folder of its runs."""
    shown = grid.path.relative_to(grid.folder) if grid.path.is_relative_to(grid.folder) else grid.typed
    return f"s3router experiment {verb} {shown}"


def _head(grid: Grid) -> list[str]:
    rates = all(figure.lower for figure in grid.figures)
    how = ", by greedy decoding without a language model" if grid.select in ("wer", "cer", "per") else ""
    return [
        "# Results",
        "",
        *paragraph(
            f"Written by `{command(grid, 'table')}` from `{grid.results}/*.json`.",
            f"{'Error rates' if rates else 'Figures'} are in percent on **test**{how}. Everything is selected on",
            f"**dev**: the checkpoint of a run, learning rates and sparsity (by {grid.figure.heading}). Test is only",
            f"read. ± is the standard deviation over seeds; {NONE} is not measured yet.",
            *(() if rates else ("In brackets, of a single run: the 95 % interval over the test utterances (Wilson).",)),
        ),
        "",
    ]


def _compared(grid: Grid) -> list[tuple[str, str]]:
    """Pairs of methods whose difference the page shows."""
    pairs = grid.raw.get("table", {}).get("differences", [["router", "weight"]])
    return [(a, b) for a, b in pairs if a in grid.methods and b in grid.methods]


def _summary(plan: Plan) -> Iterator[str]:
    grid = plan.grid
    default = [method for method in grid.methods if method != "scratch"]
    methods = [method for method in grid.raw.get("table", {}).get("summary", default) if method in grid.methods]
    sparse = [method for method in methods if any(method in cell.sparse for cell in plan.cells)]
    yield "## The methods side by side" + (", at the sparsity that dev picks" if sparse else "")
    yield ""
    columns = [(part, figure) for part in grid.tests for figure in grid.figures]
    header = [f"{short_title(grid, m)} {_heading(grid, part, figure)}" for part, figure in columns for m in methods]
    body = []
    for cell in (cells[0] for cells in _tables(plan)):
        best = {method: plan.picked(cell, method) for method in methods}
        rows = {method: Row(plan, where, method, sparsity) for method, (where, sparsity) in best.items()}
        cells = []
        for part, figure in columns:
            texts = {method: row.percent(part, figure) for method, row in rows.items()}
            means = {m: found.mean for m, row in rows.items() if (found := row.figure(part, figure))}
            if len(means) > 1 and all(set(pair) <= means.keys() for pair in _compared(grid)[:1]):
                best_mean = (min if figure.lower else max)(means.values())
                texts |= {m: f"**{texts[m]}**" for m, mean in means.items() if mean == best_mean}
            cells += texts.values()
        picked = " / ".join(NONE if best[method][1] is None else f"{best[method][1]:.2f}" for method in sparse)
        body.append([describe(grid, cell), *cells, *([picked] if sparse else [])])
    yield from table(["", *header, *(["sparsity"] if sparse else [])], body)
    for a, b in _compared(grid):
        yield from _differences(plan, a, b)


def _heading(grid: Grid, part: str, figure: Figure) -> str:
    return figure.heading if len(grid.tests) == 1 else f"{figure.heading} {part}"


def _differences(plan: Plan, a: str, b: str) -> Iterator[str]:
    grid = plan.grid
    columns = [(part, figure) for part in grid.tests for figure in grid.figures if figure.counts]
    if not columns:
        return
    body = []
    for cell in (cells[0] for cells in _tables(plan)):
        rows = [Row(plan, where, m, sparsity) for m in (a, b) for where, sparsity in [plan.picked(cell, m)]]
        lacking = any(row.sparsity is None and row.method in cell.sparse for row in rows)
        found = [NONE if lacking else interval(difference(*rows, part, figure)) for part, figure in columns]
        body.append([describe(grid, cell), *found])
    better = "below" if columns[0][1].lower else "above"
    yield ""
    yield from paragraph(
        f"{title_of(grid, a)} minus {title_of(grid, b)}, in points, with the 95 % interval of a paired bootstrap over",
        f"the test utterances (errors averaged over seeds; {better} 0: {title_of(grid, a)} is better):",
    )
    yield ""
    yield from table(["", *(_heading(grid, part, figure) for part, figure in columns)], body)


def _table_of(plan: Plan, cells: list[Cell]) -> Iterator[str]:
    """One table of the cells of one place and variant."""
    grid = plan.grid
    yield f"## {describe(grid, cells[0])}"
    yield ""
    for cell in (cell for cell in cells if not cell.methods):
        yield f"The {cell.best} best methods of “{cell.best_of}” come here, once all of them are in."
    if not any(cell.methods for cell in cells):
        return
    parts = [*grid.tests, "dev"]
    body = []
    against = grid.raw.get("table", {}).get("against")
    picked = {m: plan.picked(c, m) for c in cells for m in c.methods}
    base = Row(plan, picked[against][0], against, picked[against][1]) if against in picked else None
    wanted = {row: cell for cell in reversed(cells) for row in cell.rows}
    rows = [Row(plan, wanted[row], *row) for row in sorted(wanted, key=lambda row: _row_order(grid, row))]
    packed = any(row.pack_bytes for row in rows)
    for row in (row for row in rows if row.found):
        name = title_of(grid, row.method)
        if row.sparsity is not None:
            name += f", {100 * row.sparsity:.0f} % removed"
            if row.method not in grid.repeat_at and row.sparsity == picked[row.method][1]:
                name += " ← dev"
        figures = [row.percent(part, figure) for part in parts for figure in grid.figures]
        if base:
            same = (row.method, row.sparsity) == (base.method, base.sparsity)
            figures.append("" if same else interval(difference(row, base, grid.tests[0], grid.figure)))
        if packed:
            figures.append(NONE if row.pack_bytes is None else f"{row.pack_bytes / 1000:,.0f}")
        body.append([name, *figures, *_about(row)])
    header = ["", *(f"{part} {figure.heading}" for part in parts for figure in grid.figures)]
    header += [f"{grid.tests[0]} {grid.figure.heading}, minus {short_title(grid, against)}"] if base else []
    header += ["kB without the head"] if packed else []
    header += ["seeds", "updates (best at)", "learning rates", "minutes", "peak GB"]
    if body:
        yield from table(header, body)
    if waiting := [(row.method, row.sparsity) for row in rows if not row.found]:
        yield from ([""] if body else [])
        yield from paragraph(f"Not run yet: {named(grid, waiting)}.")
    yield from _sizes(plan, cells[0])


def _about(row: Row) -> list[str]:
    taken = f"{row.found[0]['updates']:,} ({', '.join(str(r['best_update']) for r in row.found)})"
    minutes = f"{sum(r['seconds'] for r in row.found) / row.seeds / 60:.0f}"
    rates = ", ".join(f"{RATE_NAMES.get(n, n)} {v:g}" for n, v in row.found[0]["lrs"].items())
    peaks = [r["peak_rss_mb"] for r in row.found if "peak_rss_mb" in r]
    return [str(row.seeds), taken, rates, minutes, f"{max(peaks) / 1024:.1f}" if peaks else NONE]


def _sizes(plan: Plan, cell: Cell) -> Iterator[str]:
    """How large the test sets are, which must be the same for all runs on the same test set."""
    here = [(axis, value) for axis, value in cell.at if axis in _axes_of_tests(plan.grid)]
    results = [r for r in plan.known.results.values() if all(r.get(axis) == value for axis, value in here)]
    for part in plan.grid.tests:
        sizes = {(r[part]["n_utts"], r[part].get("n_words")) for r in results if "n_utts" in r.get(part, {})}
        if len(sizes) == 1:
            utts, words = next(iter(sizes))
            counted = f"{utts} sentences, {words} words" if words is not None else f"{utts} utterances"
            yield ""
            yield f"{part.capitalize()}: {counted}."
        elif sizes:
            yield ""
            yield f"**The {part} set has changed between these runs ({sizes}): their figures do not compare.**"


def _axes_of_tests(grid: Grid) -> list[str]:
    """The axes on which the test sets depend."""
    test = (grid.raw.get("data") or {}).get("test", "".join(f"{{{axis}}}" for axis in grid.axes))
    keys = set(map(str, test)) if isinstance(test, dict) else set()  # a path for each value of an axis
    return [axis for axis, values in grid.axes.items() if f"{{{axis}}}" in str(test) or keys & values.keys()]


def _row_order(grid: Grid, row: tuple[str, float | None]) -> tuple[int, float]:
    """Usual methods first, then those of the grid's own as they stand there; each from few to many weights removed."""
    known = [*METHOD_NAMES, *grid.methods]
    return known.index(row[0]), row[1] or 0.0


def _sweeps(plan: Plan) -> Iterator[str]:
    grid = plan.grid
    if not any(plan.swept_names(method) for method in grid.methods):
        return
    sparsity = grid.sweep_at.get("sparsity")
    places = {place(cell, grid.sweep_at): cell for cell in grid.cells}
    where = "; ".join(describe(grid, Cell(at, ())) for at in places)
    how = "one rate after the other" if grid.search == "in turn" else "all combinations"
    yield "## Learning rates"
    yield ""
    yield from paragraph(
        f"Swept on {where}{f' (masks at sparsity {sparsity})' if sparsity is not None else ''}, {how}, chosen by",
        f"{grid.figure.heading} on dev and used in every row above. The best stands in bold.",
    )
    yield ""
    body = []
    for at, cell in places.items():
        for method in grid.methods:
            for sweep in plan.sweeps(method, cell):
                if not any(plan.known.done(run) for run in sweep.runs):
                    continue
                body.append([title_of(grid, method), *_sweep_row(plan, sweep)])
                if len(places) > 1:
                    body[-1][0] += f" ({', '.join(value for _, value in at)})"
    if body:
        yield from table(["", "learning rate of", f"value: dev {grid.figure.heading}"], body)
    else:
        yield "None of them has been run yet."
    yield ""


def _sweep_row(plan: Plan, sweep: Sweep) -> list[str]:
    runs = sorted(sweep.runs, key=lambda run: _sort_key(run.values(sweep.names)))
    cells = []
    for run in runs:
        text = " and ".join(_plain(value) for value in run.values(sweep.names).values())
        done = plan.known.done(run)
        figure: Figure = plan.grid.figure
        text += f": {100 * plan.known.results[run.key]['dev'][figure.name]:.1f}" if done else f": {NONE}"
        cells.append(f"**{text}**" if run.values(sweep.names) == sweep.leading else text)
    if at_edge := _at_edge(sweep):
        which = f" of {' and '.join(RATE_NAMES.get(n, n) for n in at_edge)}" if len(sweep.names) > 1 else ""
        cells.append(f"(the best lies at the edge{which})")
    return [" and ".join(RATE_NAMES.get(name, name) for name in sorted(sweep.names)), " · ".join(cells)]


def _at_edge(sweep: Sweep) -> list[str]:
    """The options whose best value is the first or last of those that were tried."""
    found = []
    for name in sorted(sweep.names) if sweep.best else ():
        tried = sorted((run.values((name,)) for run in sweep.runs), key=_sort_key)
        if tried[0] != tried[-1] and {name: sweep.best[name]} in (tried[0], tried[-1]):
            found.append(name)
    return found


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _sort_key(values: dict) -> list:
    return [
        (isinstance(value, str), value) if isinstance(value, int | float | str) else (True, str(value))
        for value in values.values()
    ]


def _origin(plan: Plan, known: Known) -> Iterator[str]:
    grid, planned = plan.grid, Plan(plan.grid, plan.known)
    shown = {run.key for cell in plan.cells for row in cell.rows for run in plan.row(cell, *row)}
    tried = {
        run.key for cell in plan.cells for m in cell.methods for sweep in plan.sweeps(m, cell) for run in sweep.runs
    }
    first = {run.key for run in Plan(grid, plan.known, sweep=False).runs()}
    wanted = shown | tried | first | {run.key for run in planned.runs()}
    others = {run.key: line for run in planned.runs() for line in known.of_other_methods([run])}
    mine = [result for key, result in known.results.items() if key in wanted - others.keys()]
    yield "## How these were made"
    yield ""
    yield f"- `{command(grid, 'run')}`; {len(mine)} of about {len(planned.everything())} runs are in."
    yield from (f"- {line}." for line in others.values())
    if not mine:
        return
    yield f"- Upstream `{grid.upstream}`, files {grid.upstream_id or 'of a download'}."
    yield f"- {commits(mine)}"
    dates = sorted(result["date"] for result in mine)
    hours = sum(result["seconds"] for result in mine) / 3600
    yield f"- Dates: {dates[0]} to {dates[-1]}. Training took {hours:.1f} hours in all."
    yield from versions_of(mine)
    further = len(known.results) - len(mine) - len(others)
    if failed := known.failed & (wanted | {run.key for run in Plan(grid, known).everything()}):  # not another grid's
        yield f"- {len(failed)} runs failed; `{command(grid, 'status')}` names them."
    if further:
        yield f"- Further result files, of other settings or upstreams and not shown: {further}."
    yield "- The exact command of each run stands in its result file. One of each method:"
    yield ""
    yield "```"
    rows = [result for key, result in known.results.items() if key in shown - others.keys()]
    for method in grid.methods:
        if example := next((result for result in rows if result["method"] == method), None):
            yield " ".join(shlex.split(example["command"], posix=False))
    yield "```"


def commits(results: list[dict]) -> str:
    """Which commits made them, as a sentence."""
    counted = collections.Counter(result["commit"] for result in results)
    named = ", ".join(f"{commit} ({count})" for commit, count in counted.most_common())
    return f"Commits (runs): {named}; “+” marks code that was changed after that commit."


def versions_of(results: list[dict]) -> Iterator[str]:
    """A line for each set of versions that they were made with."""
    for versions in dict.fromkeys(tuple(result["versions"].items()) for result in results):
        yield f"- {', '.join(f'{name} {version}' for name, version in versions)}."
