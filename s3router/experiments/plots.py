"""The figures of a grid's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3router.experiments.figures import Figure
from s3router.experiments.grid import Cell, Grid
from s3router.experiments.planning import Plan
from s3router.experiments.report import plots_of
from s3router.experiments.results import Known
from s3router.experiments.rows import Row, describe, title_of
from s3router.files import replacing
from s3router.prune.schedule import METHODS as PRUNING
from s3router.scoring.stats import MeanSpread

# Okabe and Ito's palette: told apart by colour-blind readers and in print.
_COLOURS = {"router": "#0072B2", "weight": "#D55E00", "frozen": "#009E73", "scratch": "#8C6BB1"}
_MORE_COLOURS = (
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#882255",
    "#44AA99",
    "#999933",
    "#332288",
    "#F0E442",
    "#117733",
    "#AA4499",
    "#DDCC77",
)
_FEW = 2
"""Curves whose figures are written beside them; more have a legend instead."""
_MARKERS = {"router": "o", "weight": "s", "frozen": "^", "scratch": "d"}


def write_plots(grid: Grid, known: Known) -> list[Path]:
    """Draw what there is to draw, beside the result files; returns the files written."""
    plan = Plan.of_results(grid, known)
    curve, learning = plots_of(grid)
    cell = max((cell for cell in plan.cells if cell.methods), key=lambda cell: len(cell.sparsities))
    at = {method: plan.picked(cell, method) for method in cell.methods}
    best = {method: sparsity for method, (_, sparsity) in at.items()}
    picked = [row for method, (where, s) in at.items() if (row := Row(plan, where, method, s)).found]
    picked.sort(key=lambda row: list(_COLOURS).index(row.method) if row.method in _COLOURS else len(_COLOURS))
    title = describe(grid, cell)
    wide, sparse, best = _with_the_rest(plan, cell, best)
    over = f"{title}: test over the share of weights removed"
    drawn = {curve: _sparsity_curve(plan, sparse, wide, best, over, curve)}
    drawn[learning] = _learning_curves(plan, picked, f"{title}: training, first seed", learning)
    return [path for path, done in drawn.items() if done]


def _with_the_rest(
    plan: Plan, cell: Cell, best: Mapping[str, float | None]
) -> tuple[list[Row], frozenset[str], dict[str, float | None]]:
    """Rows, methods with sparsities, and what dev picks of a cell and of the others of its place.

    Of these, sparsities of the cell's own methods, and methods that have been run at two.
    """
    here = describe(plan.grid, cell)
    cells = [cell, *(other for other in plan.cells if other is not cell and describe(plan.grid, other) == here)]
    places = {row: other for other in reversed(cells) for row in other.rows}
    rows = [Row(plan, place, *row) for row, place in places.items()]
    run = Counter(row.method for row in rows if row.found and row.sparsity is not None)
    further = [m for other in cells[1:] for m in other.methods if m in other.sparse and m not in best and run[m] > 1]
    picked = {m: plan.picked(other, m)[1] for other in reversed(cells) for m in other.methods if m in further}
    kept = dict(best) | {method: picked[method] for method in dict.fromkeys(further)}
    sparse = frozenset(method for other in cells for method in other.sparse)
    return [row for row in rows if row.method in kept], sparse, kept


def _sparsity_curve(plan: Plan, sparse, rows: Sequence[Row], best: dict, title: str, path: Path) -> bool:
    """Figures on test over sparsity, from where nothing is removed (`start_of`); methods without sparsities as lines
    across.

    Error bars and bands are the standard deviation where there are several seeds; the figure at the sparsity that dev
    picks is written out. A line far above everything else is named at the top instead of drawn. Returns whether there
    was anything to draw: a method at two sparsities.
    """
    part, figures = plan.grid.tests[0], plan.grid.figures
    # a test set that the grid has named since is not in results of before
    found = [row for row in rows if any(row.figure(part, metric) for metric in figures)]
    starts = {method: start_of(plan.grid, method) for method in best if method in sparse}
    curves = {method: [row for row in found if row.method in (start, method)] for method, start in starts.items()}
    curves = {method: sorted(curve, key=lambda row: row.sparsity or 0.0) for method, curve in curves.items()}
    own = {method: [row for row in curve if row.method == method] for method, curve in curves.items()}
    # one sparsity is a point: a line to it would say what nobody has measured
    curves = {method: curve if len(own[method]) > 1 else own[method] for method, curve in curves.items() if own[method]}
    if all(len(curve) < 2 for curve in curves.values()):
        path.unlink(missing_ok=True)  # of an earlier call
        return False
    figure, axes = _figure(len(figures))
    for axis, metric in zip(axes, figures, strict=True):
        top = 0.0
        for method, whole in curves.items():
            curve = [row for row in whole if row.figure(part, metric)]
            values = [row.figure(part, metric) for row in curve]
            if not curve:
                continue
            top = max(top, *(100 * value.mean for value in values))
            _curve(axis, plan.grid, method, curve, values, best[method] if len(curves) <= _FEW else None)
        drawn = {*curves, *({"frozen"} & set(starts.values()))}
        for row in (row for row in found if row.method not in drawn and row.figure(part, metric)):
            _level(axis, plan.grid, row.method, row.figure(part, metric), 1.3 * top, metric)
        axis.set_xlabel("share of the masked weights removed, %")
        axis.set_ylabel(f"{metric.heading} on test, %")
        axis.margins(y=0.15)
    if len(curves) > 1:
        figure.legend(
            *axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, ncols=4, loc="outside lower center"
        )
    _save(figure, title, path)
    return True


def start_of(grid: Grid, method: str) -> str:
    """The method of whose model nothing is removed: the head alone, or of pruning all weights finetuned."""
    return "weight" if grid.bases[method] in PRUNING else "frozen"


def _curve(axis, grid: Grid, method: str, curve: Sequence[Row], values: Sequence[MeanSpread], picked: float | None):
    colour = colour_of(grid, method)
    style = {"marker": "o", "ms": 6, "lw": 2.2, "capsize": 4, "elinewidth": 1.4, "zorder": 3, "color": colour}
    shares = [100 * (row.sparsity or 0.0) for row in curve]
    spread = [100 * (v.std or 0.0) for v in values]
    axis.errorbar(shares, [100 * v.mean for v in values], yerr=spread, label=title_of(grid, method), **style)
    for share, row, value in zip(shares, curve, values, strict=True):
        at = (share, 100 * value.mean)
        if row.method != method:
            axis.plot(*at, marker=_MARKERS[row.method], ms=9, color=_COLOURS[row.method], zorder=4)
            if row.method == "frozen":  # the other has a line across, which is named
                _label(axis, f"frozen {value.percent()}", at, (9, 2), _COLOURS["frozen"])
        elif row.sparsity == picked:
            _label(axis, value.percent(), at, (0, -18), colour, ha="center")


def _level(axis, grid: Grid, method: str, value: MeanSpread, ceiling: float, metric: Figure) -> None:
    """A method as a line across, named to the right of the axes; above `ceiling` only its name and figure on top."""
    level, spread, colour = 100 * value.mean, 100 * (value.std or 0.0), colour_of(grid, method)
    name = f"{title_of(grid, method)}\n{value.percent()}"
    if metric.lower and level > ceiling:
        text = f"{name.replace(chr(10), ' ')} (above the scale)"
        axis.annotate(text, (0.99, 0.97), xycoords="axes fraction", ha="right", va="top", color=colour, fontsize=9)
        return
    axis.axhline(level, color=colour, lw=1.8, ls="--" if method == "weight" else ":", zorder=1)
    if spread:
        axis.axhspan(level - spread, level + spread, color=colour, alpha=0.12, lw=0)
    where = {"xycoords": ("axes fraction", "data"), "xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    axis.annotate(name, (1.0, level), color=colour, fontsize=9, **where)


def _label(axis, text: str, at: tuple[float, float], offset: tuple[int, int], colour: str, ha: str = "left") -> None:
    axis.annotate(text, at, xytext=offset, textcoords="offset points", ha=ha, color=colour, fontsize=9)


def _learning_curves(plan: Plan, rows: Sequence[Row], title: str, path: Path) -> bool:
    """Training loss and dev CER over updates, a line for each method, first seed. Returns whether it drew anything."""
    found = [row for row in rows if row.found[0].get("curve")]
    if not found:
        return False
    figure, axes = _figure(2)
    for row in sorted(found, key=lambda row: -min(point[3] for point in row.found[0]["curve"])):  # the legend's order
        curve = row.found[0]["curve"]
        label = title_of(plan.grid, row.method)
        label += f", {100 * row.sparsity:.0f} % removed" if row.sparsity is not None else ""
        updates = [point[0] for point in curve]
        style = {"color": colour_of(plan.grid, row.method), "lw": 1.8, "label": label}
        axes[0].plot(updates, [point[1] for point in curve], **style)
        axes[1].plot(updates, [100 * point[3] for point in curve], **style)
        best = min(curve, key=lambda point: point[3])
        marker = _MARKERS.get(row.method, "o")
        axes[1].plot(best[0], 100 * best[3], marker=marker, ms=7, color=colour_of(plan.grid, row.method))
    for axis in axes:
        _log_scale(axis, "y")
        axis.set_xlabel("updates")
    axes[0].set_ylabel("loss on train")
    axes[1].set_ylabel("CER on dev, % (marked: the checkpoint used)")
    axes[1].set_ylim(top=min(105, axes[1].get_ylim()[1]))
    axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.set_figwidth(14)
    _save(figure, title, path)
    return True


def _log_scale(axes, which: str) -> None:
    """Ticks of the "x" or "y" axis in plain numbers, also where the values span less than a decade."""
    from matplotlib import ticker

    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())


def write_dots(rows: Mapping[str, Mapping[str, float | None]], path: Path) -> None:
    """A band for each row (title -> name -> value), with a dot for each value that is known.

    Names have the same colour in all rows, and each its height within a row, so that equal values do not hide
    each other; the last one, which the picture is about, is drawn largest.
    """
    rows = {title: values for title, values in rows.items() if any(v is not None for v in values.values())}
    figure, (axis,) = _figure(1)
    figure.set_size_inches(8.2, 0.9 + 0.5 * len(rows))
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    colours = dict(zip(reversed(names), (*_COLOURS.values(), *_MORE_COLOURS), strict=False))
    heights = {name: 0.6 * ((place + 0.5) / len(names) - 0.5) for place, name in enumerate(names)}
    for place in range(len(rows)):
        axis.axhspan(place - 0.4, place + 0.4, color="#f3f3f3", lw=0, zorder=0)
    for name in names:
        at = [(v[name], place + heights[name]) for place, v in enumerate(rows.values()) if v.get(name) is not None]
        size = 70 if name == names[-1] else 38
        axis.scatter(*zip(*at, strict=True) if at else ([], []), s=size, color=colours[name], label=name, zorder=2)
    axis.grid(visible=False, axis="y")
    axis.grid(axis="x", color="#dddddd", lw=0.8)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("error rate on test, % (less is better)")
    known = [value for values in rows.values() for value in values.values() if value is not None]
    if min(known, default=0) > 0:
        _log_scale(axis, "x")
        axis.set_xlabel("error rate on test, %, logarithmic (less is better)")
    else:
        axis.set_xlim(left=0)
    if names:  # else nothing has been run yet
        figure.legend(frameon=False, fontsize=9, ncols=len(names), loc="outside upper center")
    _save(figure, "", path)


def colour_of(grid: Grid, method: str) -> str:
    """The same for a method in all figures."""
    others = [name for name in grid.methods if name not in _COLOURS]
    return _COLOURS.get(method) or _MORE_COLOURS[others.index(method) % len(_MORE_COLOURS)]


def _figure(columns: int):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(5.4 * columns, 4.2), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", lw=0.8)
        axis.set_axisbelow(True)
    return figure, axes[0]


def _save(figure, title: str, path: Path) -> None:
    """Write the picture, whole or not at all, without the date and version that would change it at every call."""
    import matplotlib.pyplot as plt

    if title:
        figure.suptitle(title, fontsize=12)
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)
