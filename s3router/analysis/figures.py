"""The figures of an analysis, each with a sentence on what it does and does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s3router.analysis.arrange import classical_mds, cluster
from s3router.analysis.drawing import (
    FONT,
    Canvas,
    Plot,
    colour,
    dash,
    draw_legend,
    ink_on,
    legend_rows,
    number,
    spread,
    text_width,
)
from s3router.analysis.relations import Correlation


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        name: of its file, without the ending.
        title: above it.
        svg: a whole document.
        caption: what may and what may not be concluded.
    """

    name: str
    title: str
    svg: str
    caption: str


def heat_map(labels: Sequence[str], values: np.ndarray, caption: str) -> Figure:
    """Similarities above chance of all pairs (packs, packs), in the order of a tree beside them."""
    title = "Similarity of masks above chance"
    distances = np.nan_to_num(1 - values, nan=1.0)
    tree = cluster(distances)
    count, order = len(labels), tree.order
    cell = max(14.0, min(46.0, 640 / count))
    written = cell >= 34
    turn = -50 if cell >= 24 else -90  # upright, they do not lie on one another
    branch = 90.0
    margin = max(text_width(label) for label in labels) + 10
    off = values[~np.eye(count, dtype=bool)]
    top = float(np.nanmax(off)) if np.isfinite(off).any() else 1.0
    top = top if top > 0 else 1.0
    left, above = branch + 8, (0.75 if turn > -90 else 1) * margin + 16
    right = max(left + count * cell + margin, left + 200)
    canvas = Canvas(right, above + count * cell + 52, title)
    for row, one in enumerate(order):
        y = above + row * cell
        canvas.text(left + count * cell + 7, y + cell / 2, labels[one])
        canvas.text(left + row * cell + cell / 2 + (2 if turn > -90 else 0), above - 9, labels[one], turn=turn)
        for column, other in enumerate(order):
            x, value = left + column * cell, float(values[one, other])
            if one == other or np.isnan(value):
                canvas.rect(x, y, cell - 1, cell - 1, "var(--line)", 0.5)
                continue
            shade = min(abs(value) / top, 1.0)
            tip = f"{labels[one]} and {labels[other]}: {number(value)}"
            canvas.rect(x, y, cell - 1, cell - 1, "var(--heat)" if value >= 0 else "var(--cold)", shade, tip)
            if written:
                written_in = ink_on(shade, value >= 0)
                canvas.text(x + cell / 2, y + cell / 2, f"{value:.2f}".replace("0.", "."), "middle", fill=written_in)
    _tree(canvas, tree.merges, order, branch, above, cell)
    below = above + count * cell + 26
    for step in range(40):
        canvas.rect(left + 4 * step, below - 6, 4.5, 12, "var(--heat)", (step + 1) / 40)
    canvas.text(left - 6, below, "0 (chance)", "end", soft=True)
    canvas.text(left + 168, below, number(top), soft=True)
    return Figure("similarity", title, canvas.svg(), caption)


def matrix(
    name: str, title: str, rows: Sequence[str], columns: Sequence[str], values: np.ndarray, caption: str
) -> Figure:
    """A measure of ordered pairs (rows, columns), low is good: in each column, the lowest is the darkest."""
    cell = max(18.0, min(46.0, 640 / len(columns)))
    left = max(text_width(row) for row in rows) + 14
    above = max(text_width(column) for column in columns) * 0.75 + 24
    right = max(left + len(columns) * cell + 60, 320)
    canvas = Canvas(right, above + len(rows) * cell + 16, title)
    for place, column in enumerate(columns):
        canvas.text(left + place * cell + cell / 2 + 2, above - 9, column, turn=-50)
    for line, row in enumerate(rows):
        y = above + line * cell
        canvas.text(left - 7, y + cell / 2, row, "end")
        for place, column in enumerate(columns):
            x, value, known = left + place * cell, float(values[line, place]), values[:, place]
            known = known[np.isfinite(known)]
            if np.isnan(value):
                canvas.rect(x, y, cell - 1, cell - 1, "var(--line)", 0.5)
                continue
            shade = (known.max() - value) / (np.ptp(known) or 1)
            tip = f"mask {row}, language {column}: {number(value)}"
            canvas.rect(x, y, cell - 1, cell - 1, "var(--heat)", float(shade), tip)
            if cell >= 34:
                written = f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 10 else f"{value:.0f}"
                canvas.text(x + cell / 2, y + cell / 2, written, "middle", fill=ink_on(float(shade)))
    return Figure(name, title, canvas.svg(), caption)


def _tree(canvas: Canvas, merges: np.ndarray, order: np.ndarray, width: float, above: float, cell: float) -> None:
    """The dendrogram to the left; leaves touch the map, heights go from right to left."""
    count = len(order)
    heights = np.concatenate([np.zeros(count), merges[:, 2]])
    low, high = float(merges[:, 2].min()), float(merges[:, 2].max())
    base = low - 0.15 * ((high - low) or 1.0)  # distances begin far from 0
    place = np.zeros(2 * count - 1)
    place[order] = np.arange(count)

    def x(height: float) -> float:
        return width if height <= 0 else width - 6 - (width - 14) * (height - base) / ((high - base) or 1)

    for step, (one, other, height, _) in enumerate(merges):
        one, other, here = int(one), int(other), count + step
        place[here] = (place[one] + place[other]) / 2
        ends = [(x(heights[n]), above + (place[n] + 0.5) * cell) for n in (one, other)]
        at = x(height)
        canvas.line([ends[0], (at, ends[0][1]), (at, ends[1][1]), ends[1]], "var(--soft)", 1.4)


def language_map(labels: Sequence[str], routes: Sequence[str], values: np.ndarray, caption: str) -> Figure:
    """Packs as points whose distances come near 1 - similarity above chance; a colour for each route, and a shape from
    the ninth on."""
    title = "Map of the masks"
    points, share = classical_mds(np.where(np.eye(len(labels), dtype=bool), 0, np.nan_to_num(1 - values, nan=1.0)))
    wide, high = np.ptp(points, 0)
    half = max(wide, high, 1e-9) * 0.62
    middle = (points.max(0) + points.min(0)) / 2
    plot = Plot(
        title,
        *((float(m - half), float(m + half)) for m in middle),
        ("first axis", "second axis"),
        size=(480, 450),
    )
    names = list(dict.fromkeys(routes))
    for label, route, (x, y) in zip(labels, routes, points, strict=True):
        plot.canvas.marker(*plot.at(x, y), names.index(route), 6, label)
    middles = [points[[r == route for r in routes]].mean(0) for route in names]
    _name_points(plot.canvas, names, [plot.at(x, y) for x, y in middles])
    shown = f"The map shows {100 * share:.0f} % of what the distances vary. " if np.isfinite(share) else ""
    return Figure("map", title, plot.canvas.svg(), shown + caption)


def _name_points(
    canvas: Canvas, names: Sequence[str], places: Sequence[tuple[float, float]], soft: bool = False
) -> None:
    """Names beside points, moved down where they would lie on one another; there is no room for some of many."""
    taken = [(x - 6, x + 6, y) for x, y in places]  # left, right, height
    for name, (x, y) in sorted(zip(names, places, strict=True), key=lambda item: item[1][1]):
        width = text_width(name)
        if width > canvas.width - 8:
            continue
        left = x + 10 if x + 10 + width < canvas.width - 4 else x - 10 - width
        if left < 4:  # no room on either side: above or below
            left = canvas.width - 4 - width
        for height in (y, y + FONT, y - FONT, y + 2 * FONT, y - 2 * FONT):
            if all(left > b or left + width < a or abs(height - h) >= FONT for a, b, h in taken):
                taken.append((left, left + width, height))
                canvas.text(left, height, name, soft=soft)
                break


def grouped_bars(
    name: str,
    title: str,
    places: Sequence[str],
    series: Mapping[str, np.ndarray],
    labels: tuple[str, str],
    caption: str,
) -> Figure:
    """A bar for each place and series (places,); NaN: none."""
    values = np.stack(list(series.values()))
    size = max(480.0, min(1100.0, 90 + len(places) * (16 * len(series) + 14)))
    rows = legend_rows(list(series), size - 60) if len(series) > 1 else []
    plot = Plot(
        title,
        (-0.5, len(places) - 0.5),
        spread(values),
        labels,
        (size, 320 + 20 * len(rows)),
        places,
        top=14 + 20 * len(rows),
    )
    draw_legend(plot.canvas, list(series), rows)
    width = 0.8 / len(series)
    for number_, (what, heights) in enumerate(series.items()):
        for place, height in enumerate(heights):
            if np.isfinite(height):
                at = place - 0.4 + (number_ + 0.5) * width
                tip = f"{labels[0]} {places[place]}, {what}: {number(float(height))}"
                plot.bar(at, float(height), width * 0.9, colour(number_), tip)
    return Figure(name, title, plot.canvas.svg(), caption)


def curves(
    name: str,
    title: str,
    x: Sequence[float],
    series: Mapping[str, np.ndarray],
    labels: tuple[str, str],
    caption: str,
    level: tuple[str, float] | None = None,
    zero: bool = True,
    groups: Sequence[str] | None = None,
) -> Figure:
    """A line for each series (points,).

    Args:
        level: a dashed line across, and what it is.
        zero: the vertical axis begins at 0.
        groups: of each series; those of one group have one colour and dash, and the legend names groups.
    """
    groups = list(series) if groups is None else list(groups)
    names = list(dict.fromkeys(groups))
    values = np.concatenate([np.stack(list(series.values())).reshape(-1), [] if level is None else [level[1]]])
    rows = legend_rows(names, 420)
    plot = Plot(
        title, (min(x), max(x)), spread(values, zero), labels, (480, 320 + 20 * len(rows)), top=14 + 20 * len(rows)
    )
    draw_legend(plot.canvas, names, rows)
    for group, heights in zip(groups, series.values(), strict=True):
        place = names.index(group)
        plot.curve(list(zip(x, map(float, heights), strict=True)), colour(place), dash=dash(place))
    if level is not None:
        plot.curve([(min(x), level[1]), (max(x), level[1])], "var(--soft)", 1.5, "5 4")
        end = _freer_end(np.stack(list(series.values())), level[1])
        across, up = plot.at((min(x), max(x))[end], level[1])
        plot.canvas.text(across + (-4 if end else 4), up - 9, level[0], "end" if end else "start", soft=True)
    return Figure(name, title, plot.canvas.svg(), caption)


def _freer_end(heights: np.ndarray, level: float) -> int:
    """Where the lines (series, points) leave more room around a level: 0 at the left, 1 at the right."""
    third = max(1, heights.shape[1] // 3)
    room = [np.nanmin(np.abs(part - level)) for part in (heights[:, :third], heights[:, -third:])]
    return int(room[1] >= room[0])


def scatter(
    name: str, title: str, pairs: Sequence[tuple[str, float, float]], found: Correlation, label: str, caption: str
) -> Figure:
    """Similarity above chance over another measure: a point for each (pair, measure, similarity), a fit, and chance."""
    x, y = (np.array([pair[n] for pair in pairs]) for n in (1, 2))
    plot = Plot(title, spread(x, zero=False), spread(y), (label, "similarity above chance"))
    plot.curve([(spread(x, False)[0], 0.0), (spread(x, False)[1], 0.0)], "var(--cold)", 1.5, "5 4")
    plot.canvas.text(*_above(plot.at(spread(x, False)[1], 0.0)), "chance", "end", soft=True)
    if len(x) > 2 and np.ptp(x) > 0:
        slope, start = np.polyfit(x, y, 1)
        plot.curve([(at, slope * at + start) for at in (float(x.min()), float(x.max()))], "var(--s1)")
    for what, across, up in pairs:
        plot.canvas.dot(
            *plot.at(across, up), "var(--s0)", 5 if len(pairs) <= 50 else 3, f"{what}: {number(across)}, {number(up)}"
        )
    if len(pairs) <= 21:
        places = [plot.at(across, up) for _, across, up in pairs]
        _name_points(plot.canvas, [what for what, _, _ in pairs], places, soft=True)
    said = (
        f"Spearman {number(found.spearman)}, two-sided Mantel p {number(found.p_spearman)}; Pearson "
        f"{number(found.pearson)}, p {number(found.p_pearson)}; {found.items} languages or tasks, {found.pairs} pairs. "
    )
    return Figure(name, title, plot.canvas.svg(), said + caption)


def _above(place: tuple[float, float]) -> tuple[float, float]:
    return place[0] - 4, place[1] - 9
