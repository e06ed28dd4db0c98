"""Drawing in SVG: text stays text, colours follow the reader's light or dark scheme, no date or version is in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

FONT = 13
"""Height of text in pixels."""
NARROW = 520
"""Pixels: figures up to this width fit a phone, and two stand side by side on a desk's screen."""
SERIES = 8
"""Colours of series; from there on they come again, with other dashes and markers."""
# Okabe and Ito's palette, told apart by colour-blind readers; lighter on a dark ground.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#B0528D", "#3F97CE", "#C98600", "#4D4D4D", "#8A7A00")
_DARK = ("#58A6FF", "#FF8F57", "#3FCF9F", "#E58BC0", "#9CD3FF", "#F0B840", "#C9C9C9", "#E3D84A")
_SCHEMES = {
    "light": {"ink": "#1f2328", "soft": "#59636e", "line": "#d1d9e0", "paper": "#ffffff", "heat": "#0550ae"}
    | {"on-heat": "#ffffff", "on-pale": "#000000", "cold": "#b35900"},
    "dark": {"ink": "#e6edf3", "soft": "#9198a1", "line": "#3d444d", "paper": "#0d1117", "heat": "#79c0ff"}
    | {"on-heat": "#000000", "on-pale": "#ffffff", "cold": "#ffa657"},
}


# of series 0-7, 8-15, 16-23, 24-31; then from the start
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_MARKERS: tuple[tuple[tuple[float, float], ...], ...] = (  # corners, in radii; none: a circle
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
)


def colours(scheme: str) -> str:
    """CSS variables of ``light`` or ``dark``."""
    series = {f"s{n}": colour for n, colour in enumerate(_LIGHT if scheme == "light" else _DARK)}
    return "".join(f"--{name}:{value};" for name, value in (_SCHEMES[scheme] | series).items())


STYLE = (
    f"svg.figure{{{colours('light')}font:{FONT}px system-ui,sans-serif}}"
    f"@media(prefers-color-scheme:dark){{svg.figure{{{colours('dark')}}}}}"
    "svg.figure text{fill:var(--ink)}svg.figure .soft{fill:var(--soft)}"
    "svg.figure .axis{stroke:var(--soft)}svg.figure .grid{stroke:var(--line)}"
)


def ink_on(shade: float, warm: bool = True) -> str:
    """Colour of text on ``heat`` (`warm`) or ``cold`` of an opacity, with a contrast of 4.5 or so in both schemes.

    Black is readable on pale cells of a light page and on deep ones of a dark page; between the two, on both.
    """
    if shade < 0.6:
        return "var(--on-pale)"
    return "#000000" if shade < (0.78 if warm else 0.96) else "var(--on-heat)"


def text_width(text: str) -> float:
    """About how wide a text is drawn, in pixels."""
    return sum(FONT if ord(c) > 0x2E80 else 0.56 * FONT for c in text)


class Canvas:
    """A picture under construction.

    Args:
        width, height: in pixels.
        title: what it shows, for those who do not see it, too.
    """

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1, tip: str = ""
    ) -> None:
        """A filled rectangle; `tip` is shown where the pointer rests on it."""
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        see = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{fill}"{see}>{inside}</rect>')

    def line(self, points: Sequence[tuple[float, float]], stroke: str = "", width: float = 1, dash: str = "") -> None:
        """Through these points; without a stroke it is an axis."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        look = f'stroke="{stroke}"' if stroke.startswith("var") else f'class="{stroke or "axis"}"'
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(f'<polyline points="{path}" fill="none" {look} stroke-width="{width:g}"{dashed}/>')

    def dot(self, x: float, y: float, fill: str, radius: float = 5, tip: str = "") -> None:
        """A filled circle."""
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}">{inside}</circle>')

    def marker(self, x: float, y: float, place: int, radius: float = 5, tip: str = "") -> None:
        """A point of a series: a circle in its colour, and another shape where colours come again."""
        corners = _MARKERS[place // SERIES % len(_MARKERS)]
        if not corners:
            self.dot(x, y, colour(place), radius, tip)
            return
        points = " ".join(f"{x + radius * across:.1f},{y + radius * down:.1f}" for across, down in corners)
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(f'<polygon points="{points}" fill="{colour(place)}">{inside}</polygon>')

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", soft: bool = False, turn: float = 0, fill: str = ""
    ) -> None:
        """A line of text whose middle is at height `y`; `anchor`: start, middle, end; `turn` in degrees."""
        look = ' class="soft"' if soft else ""
        look += f' style="fill:{fill}"' if fill else ""
        look += f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em" text-anchor="{anchor}"{look}>{escape(text)}</text>'
        )

    def svg(self) -> str:
        """The picture, a document of its own that can stand in a page, too."""
        width, height = f"{self.width:.0f}", f"{self.height:.0f}"
        kind = "figure narrow" if self.width <= NARROW else "figure"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" aria-label="{escape(self.title)}" '
            f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
            f"<style>{STYLE}</style>{''.join(self._parts)}</svg>"
        )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high], about so many."""
    if not high > low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Three significant digits, and as short as that: 0.031, 12.3, 1,230."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) or abs(value) < 1e-6:
        return f"{round(value):,}"
    digits = min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tick_labels(values: Sequence[float]) -> list[str]:
    """Numbers at equal steps, with as many decimals as tell them apart."""
    step = values[1] - values[0] if len(values) > 1 else 1.0
    digits = min(6, max(0, -math.floor(math.log10(step) + 1e-9)))
    return [f"{value:,.{digits}f}".replace("-0", "0") if value == 0 else f"{value:,.{digits}f}" for value in values]


class Plot:
    """Axes on a canvas.

    Args:
        title: as of `Canvas`.
        x, y: (low, high) of the data.
        labels: of both axes.
        size: of the canvas.
        names: of places 0, 1, … on the horizontal axis, where it has no numbers.
        top: pixels kept free above, for a legend.
    """

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str],
        size: tuple[float, float] = (480, 320),
        names: Sequence[str] | None = None,
        top: float = 14,
    ):
        self.canvas = Canvas(*size, title)
        self._x, self._y = x, y if y[1] > y[0] else (y[0], y[0] + 1)
        marks = ticks(*self._y)
        written = tick_labels(marks)
        self._left = 34 + max(map(text_width, written))
        self._top, self._right = top, size[0] - 14
        longest = max((text_width(name) for name in names), default=0) if names else 0
        turned = names is not None and longest > (self._right - self._left) / max(len(names), 1) - 6
        self._bottom = size[1] - (38 if not turned else 30 + 0.75 * longest)
        for mark, text in zip(marks, written, strict=True):
            self.canvas.line([self.at(x[0], mark), self.at(x[1], mark)], "grid")
            self.canvas.text(self._left - 6, self.at(0, mark)[1], text, "end", soft=True)
        if names is None:
            across = ticks(*x)
            for mark, text in zip(across, tick_labels(across), strict=True):
                self.canvas.text(self.at(mark, 0)[0], self._bottom + 13, text, "middle", soft=True)
        else:
            for place, name in enumerate(names):
                here = self.at(place, 0)[0]
                if turned:
                    self.canvas.text(here + 4, self._bottom + 10, name, "end", soft=True, turn=-45)
                else:
                    self.canvas.text(here, self._bottom + 13, name, "middle", soft=True)
        self.canvas.line([(self._left, self._bottom), (self._right, self._bottom)])
        self.canvas.text((self._left + self._right) / 2, size[1] - 9, labels[0], "middle")
        self.canvas.text(11, (self._top + self._bottom) / 2, labels[1], "middle", turn=-90)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is."""
        across = (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1)
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return self._left + across * (self._right - self._left), self._bottom - up * (self._bottom - self._top)

    def bar(self, x: float, y: float, width: float, fill: str, tip: str = "") -> None:
        """From 0 to `y`, `width` in units of the data."""
        (left, one), (right, other) = self.at(x - width / 2, y), self.at(x + width / 2, 0)
        self.canvas.rect(left, min(one, other), right - left, abs(other - one), fill, tip=tip)

    def curve(self, points: Sequence[tuple[float, float]], stroke: str, width: float = 2, dash: str = "") -> None:
        """Through points of the data; those that are NaN are passed over."""
        known = [self.at(x, y) for x, y in points if not math.isnan(y)]
        if len(known) > 1:
            self.canvas.line(known, stroke, width, dash)


def legend_rows(names: Sequence[str], width: float) -> list[list[int]]:
    """Which names stand in each row of a legend."""
    rows, used = [[]], 0.0
    for place, name in enumerate(names):
        needed = 34 + text_width(name)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append(place)
        used += needed
    return rows


def draw_legend(canvas: Canvas, names: Sequence[str], rows: Sequence[Sequence[int]], x: float = 50) -> None:
    """Names of series, each behind its colour (and its dashes, where colours come again), at the top of the canvas."""
    for row, places in enumerate(rows):
        here = x
        for place in places:
            if dash(place):
                canvas.line([(here - 6, 11 + 20 * row), (here + 14, 11 + 20 * row)], colour(place), 2, dash(place))
            else:
                canvas.rect(here, 5 + 20 * row, 12, 12, colour(place))
            canvas.text(here + 18, 11 + 20 * row, names[place])
            here += 34 + text_width(names[place])


def colour(place: int) -> str:
    """Of a series."""
    return f"var(--s{place % SERIES})"


def dash(place: int) -> str:
    """Of the line of a series: none for the first ones, others where their colours come again."""
    return _DASHES[place // SERIES % len(_DASHES)]


def spread(values: np.ndarray, zero: bool = True) -> tuple[float, float]:
    """(low, high) of an axis that shows all of them, with some air; `zero`: and 0."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    air = 0.08 * (high - low) or 0.5
    return low - (air if low < 0 or not zero else 0), high + air
