"""The plots of RESULTS.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Row

# Blue, orange, green and violet of Okabe and Ito's palette: told apart by colour-blind readers and in print.
COLOURS = {"router": "#0072B2", "weight": "#D55E00", "frozen": "#009E73", "scratch": "#8C6BB1"}
LABELS = {
    "router": "S3-Router",
    "weight": "weight finetuning",
    "frozen": "frozen (head only)",
    "scratch": "from scratch",
}
MARKERS = {"router": "o", "weight": "s", "frozen": "^", "scratch": "d"}


def sparsity_curve(rows: Sequence[Row], title: str, path: Path) -> bool:
    """Test WER and CER over sparsity, 0 being the head alone; weight finetuning and scratch as lines across.

    Error bars and bands are the standard deviation where there are several seeds. Returns whether there was anything
    to draw.
    """
    found = [row for row in rows if row.found]
    curve = sorted((row for row in found if row.method in ("frozen", "router")), key=lambda row: row.sparsity or 0.0)
    if not curve:
        return False
    figure, axes = _figure(2)
    for axis, metric in zip(axes, ("wer", "cer"), strict=True):
        for row in found:
            if row.method not in ("weight", "scratch"):
                continue
            level = row.figure("test", metric)
            colour = COLOURS[row.method]
            axis.axhline(100 * level.mean, color=colour, lw=1.8, ls="--" if row.method == "weight" else ":", zorder=1)
            if level.std:
                axis.axhspan(
                    100 * (level.mean - level.std), 100 * (level.mean + level.std), color=colour, alpha=0.12, lw=0
                )
            axis.annotate(
                LABELS[row.method],
                (1.0, 100 * level.mean),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                color=colour,
                fontsize=9,
            )
        figures = [row.figure("test", metric) for row in curve]
        axis.errorbar(
            [100 * (row.sparsity or 0.0) for row in curve],
            [100 * f.mean for f in figures],
            yerr=[100 * (f.std or 0.0) for f in figures],
            color=COLOURS["router"],
            marker="o",
            ms=6,
            lw=2.2,
            capsize=3,
            elinewidth=1.2,
            zorder=3,
        )
        start = curve[0]
        if start.method == "frozen":
            level = 100 * figures[0].mean
            axis.plot([0], [level], marker="^", ms=9, color=COLOURS["frozen"], zorder=4)
            axis.annotate(
                "frozen", (0, level), xytext=(9, 2), textcoords="offset points", color=COLOURS["frozen"], fontsize=9
            )
        lowest = min(range(len(curve)), key=lambda k: figures[k].mean)
        axis.annotate(
            f"{100 * figures[lowest].mean:.1f}",
            (100 * (curve[lowest].sparsity or 0.0), 100 * figures[lowest].mean),
            xytext=(0, -15),
            textcoords="offset points",
            ha="center",
            color=COLOURS["router"],
            fontsize=9,
        )
        axis.set_xlabel("share of the masked weights removed, %")
        axis.set_ylabel(f"{metric.upper()} on test, %")
        axis.margins(y=0.15)
    _save(figure, title, path)
    return True


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
