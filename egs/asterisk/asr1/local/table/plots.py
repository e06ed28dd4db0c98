"""The plots of RESULTS.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Row

    from s3router.scoring.stats import MeanSpread

# Blue, orange, green and violet of Okabe and Ito's palette: told apart by colour-blind readers and in print.
COLOURS = {"router": "#0072B2", "weight": "#D55E00", "frozen": "#009E73", "scratch": "#8C6BB1"}
LABELS = {
    "router": "S3-Router",
    "weight": "weight finetuning",
    "frozen": "frozen (head only)",
    "scratch": "from scratch",
}
MARKERS = {"router": "o", "weight": "s", "frozen": "^", "scratch": "d"}


def sparsity_curve(rows: Sequence[Row], picked: float | None, title: str, path: Path) -> bool:
    """Test WER and CER over sparsity, 0 being the head alone; weight finetuning and scratch as lines across.

    Error bars and bands are the standard deviation where there are several seeds; `picked` is the sparsity that dev
    picks, its figure is written out. A line far above everything else is named at the top instead of drawn. Returns
    whether there was anything to draw.
    """
    found = [row for row in rows if row.found]
    curve = sorted((row for row in found if row.method in ("frozen", "router")), key=lambda row: row.sparsity or 0.0)
    if not curve:
        return False
    figure, axes = _figure(2)
    for axis, metric in zip(axes, ("wer", "cer"), strict=True):
        figures = [row.figure("test", metric) for row in curve]
        axis.errorbar(
            [100 * (row.sparsity or 0.0) for row in curve],
            [100 * f.mean for f in figures],
            yerr=[100 * (f.std or 0.0) for f in figures],
            **{
                "color": COLOURS["router"],
                "marker": "o",
                "ms": 6,
                "lw": 2.2,
                "capsize": 4,
                "elinewidth": 1.4,
                "zorder": 3,
            },
        )
        for row, value in zip(curve, figures, strict=True):
            at = (100 * (row.sparsity or 0.0), 100 * value.mean)
            if row.method == "frozen":
                axis.plot(*at, marker="^", ms=9, color=COLOURS["frozen"], zorder=4)
                _label(axis, f"frozen {value.percent()}", at, (9, 2), COLOURS["frozen"])
            elif row.sparsity == picked:
                _label(axis, value.percent(), at, (0, -18), COLOURS["router"], ha="center")
        ceiling = 1.3 * max(100 * f.mean for f in figures)
        for row in (row for row in found if row.method in ("weight", "scratch")):
            _level(axis, row.method, row.figure("test", metric), ceiling)
        axis.set_xlabel("share of the masked weights removed, %")
        axis.set_ylabel(f"{metric.upper()} on test, %")
        axis.margins(y=0.15)
    _save(figure, title, path)
    return True


def _level(axis, method: str, value: MeanSpread, ceiling: float) -> None:
    """A method as a line across, named to the right of the axes; above `ceiling` only its name and figure on top."""
    level, spread, colour = 100 * value.mean, 100 * (value.std or 0.0), COLOURS[method]
    name = f"{LABELS[method]}\n{value.percent()}"
    if level > ceiling:
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


def learning_curves(rows: Sequence[Row], title: str, path: Path) -> bool:
    """Training loss and dev CER over updates, a line a method, first seed. Returns whether it drew anything."""
    found = [row for row in rows if row.found]
    if not found:
        return False
    figure, axes = _figure(2)
    for row in found:
        curve = row.found[0]["curve"]
        label = LABELS[row.method] + (f", {100 * row.sparsity:.0f} % removed" if row.sparsity is not None else "")
        updates = [point[0] for point in curve]
        style = {"color": COLOURS[row.method], "lw": 1.8, "label": label}
        axes[0].plot(updates, [point[1] for point in curve], **style)
        axes[1].plot(updates, [100 * point[3] for point in curve], **style)
        best = min(curve, key=lambda point: point[3])
        axes[1].plot(best[0], 100 * best[3], marker=MARKERS[row.method], ms=7, color=COLOURS[row.method])
    axes[0].set_yscale("log")
    axes[0].set_ylabel("CTC loss on train")
    axes[1].set_ylabel("CER on dev, % (marked: the checkpoint used)")
    for axis in axes:
        axis.set_xlabel("updates")
    axes[1].set_ylim(bottom=0, top=min(105, axes[1].get_ylim()[1]))
    axes[1].legend(frameon=False, fontsize=9)
    _save(figure, title, path)
    return True


def _figure(columns: int):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(5.4 * columns, 4.2), layout="constrained")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#dddddd", lw=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _save(figure, title: str, path: Path) -> None:
    """Write the picture at once or not at all, without the date and version that would change it at every call."""
    import matplotlib.pyplot as plt

    figure.suptitle(title, fontsize=12)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    figure.savefig(temporary, dpi=130, metadata={"Software": None})
    plt.close(figure)
    temporary.replace(path)
