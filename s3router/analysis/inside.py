"""The masks among themselves: how alike they are, in which layers, and which weights they remove."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from s3router.analysis import captions, figures
from s3router.analysis.cuts import explained, heads, shared, units
from s3router.analysis.drawing import number
from s3router.analysis.mask_set import MaskSet
from s3router.analysis.work import Work, mean

_LAYER = "layer (counted from 0)"


def packs(work: Work) -> None:
    """A table with a row for each pack."""
    every, sizes = work.every, work.masks.sizes
    changed = initial = None
    if work.initial is not None:
        changed, initial = work.initial.changed(every), work.initial.over(every)
        lacking = [s.label for s, value in zip(work.masks.sources, initial.common, strict=True) if np.isnan(value)]
        if lacking:
            work.notes.append(f"The initial masks of {', '.join(lacking)} are not known: their packs do not say them.")
    rows = []
    for place, source in enumerate(work.masks.sources):
        removed = int(work.masks.counts[:, place].sum())
        row: dict[str, Any] = {
            "pack": source.label,
            "route": source.route,
            "seed": source.seed,
            "method": source.meta.training.get("method"),
            "language": work.codes.get(source.route),
            "weights": int(sizes.sum()),
            "removed": removed,
            "sparsity": removed / sizes.sum(),
        }
        if initial is not None:
            row |= {
                "changed_from_initial": changed[place],
                "cosine_to_initial": initial.cosine[place],
                "cosine_to_initial_chance": initial.cosine_chance[place],
                "above_chance_to_initial": initial.above_chance[place],
            }
        if work.bins is not None:
            row["explained_by_magnitude"] = _explained(work, every, place)
        rows.append(row)
    work.add("packs", rows)


def _explained(work: Work, rows: np.ndarray, place: int) -> float:
    """Of one pack over these matrices: bits that bins of magnitude save, of all its bits; NaN if it follows others."""
    if not work.follows[place]:
        return math.nan
    removed, sizes = work.bins[0][rows, place], work.bins[1][rows]
    whole = np.array([sizes.sum(-1), removed.sum(-1)]).T
    share = whole[:, 1] / whole[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = -whole[:, 0] * (share * np.log2(share) + (1 - share) * np.log2(1 - share))
    weight = np.nan_to_num(bits)
    each = np.nan_to_num(explained(removed, sizes))
    return float((each * weight).sum() / weight.sum()) if weight.sum() else math.nan


def similarity(work: Work) -> None:
    """Tables of all pairs and of the references, heat map, map, and bars by layer."""
    labels, sources = work.masks.labels, work.masks.sources
    one, other = np.triu_indices(len(labels), 1)
    same = np.array([sources[a].route == sources[b].route for a, b in zip(one, other, strict=True)])
    rows: list[dict[str, Any]] = []
    for kind, name, found, given in work.overlaps.scopes():
        values = {
            "total": found.total.astype(np.int64),
            "removed_a": found.first.astype(np.int64),
            "removed_b": found.second.astype(np.int64),
            "removed_by_both": found.common.astype(np.int64),
            "expected_by_chance": found.expected,
            **{m + end: getattr(found, m + end) for m in ("cosine", "jaccard", "agreement") for end in ("", "_chance")},
            "above_chance": found.above_chance,
            "z": found.z,
        }
        if given is not None:
            values |= {"above_chance_given_magnitude": given.above_chance, "z_given_magnitude": given.z}
        for a, b, alike in zip(one, other, same, strict=True):
            row = {"scope": kind, "where": name, "a": labels[a], "b": labels[b], "same_route": bool(alike)}
            rows.append(row | {what: v[a, b] for what, v in values.items()})
    work.add("pairs", rows)
    _references(work, one, other, same)
    _similarity_figures(work, one, other, same)


def _references(work: Work, one: np.ndarray, other: np.ndarray, same: np.ndarray) -> None:
    """The similarities between the references below and above them."""
    found = work.overlaps.over(work.every)
    groups = [
        ("different routes", found, (one[~same], other[~same])),
        ("same route, another seed", found, (one[same], other[same])),
    ]
    if work.initial is not None:
        initial = work.initial.over(work.every)
        known = np.flatnonzero(~np.isnan(initial.common))
        groups.insert(0, ("a mask and its initial one", initial, (known,)))
    rows = []
    for name, overlap, places in groups:
        if len(places[0]):
            rows.append(
                {
                    "pairs_of": name,
                    "pairs": len(places[0]),
                    "cosine": mean(overlap.cosine[places]),  # unknown of a mask that removes all
                    "cosine_by_chance": mean(overlap.cosine_chance[places]),
                    "jaccard": overlap.jaccard[places].mean(),
                    "jaccard_by_chance": overlap.jaccard_chance[places].mean(),
                    "above_chance": mean(overlap.above_chance[places]),
                    "lowest": np.fmin.reduce(overlap.above_chance[places]),
                    "highest": np.fmax.reduce(overlap.above_chance[places]),
                }
            )
    work.add("references", rows)
    if not same.any():
        work.notes.append(captions.NO_SEEDS)


def _similarity_figures(work: Work, one: np.ndarray, other: np.ndarray, same: np.ndarray) -> None:
    masks = work.masks
    begun = work.initial is not None and np.isfinite(work.initial.common).any()
    there = [what for what, known in (("two seeds of one route", same.any()), ("the initial masks", begun)) if known]
    references = captions.HOLD_AGAINST.format(references=" and of ".join(there)) if there else ""
    z = work.overlaps.over(work.every).z[one, other]
    least = f" The smallest z-score is {number(float(np.nanmin(z)))}." if np.isfinite(z).any() else ""
    work.draw(
        figures.heat_map(
            masks.labels,
            work.above,
            captions.SIMILARITY.format(least=least, references=references),
        )
    )
    if len(masks.sources) > 2:
        work.draw(
            figures.language_map(
                masks.labels,
                [source.route for source in masks.sources],
                work.above,
                captions.MAP,
            )
        )
    places, roles = _layers(masks)
    bars: dict[str, np.ndarray] = {role: np.full(len(places), np.nan) for role in roles}
    cut = {role: np.full(len(places), np.nan) for role in roles}
    moved = {role: np.full(len(places), np.nan) for role in roles}
    rows = []
    for role in roles:
        for column, place in enumerate(places):
            here = masks.rows(lambda w, place=place, role=role: w.place == place and w.role == role)
            if not len(here):
                continue
            bars[role][column] = mean(work.overlaps.over(here).above_chance[one, other])
            share = masks.counts[here].sum(0) / masks.sizes[here].sum()
            cut[role][column] = share.mean()
            changed = np.full(len(masks.sources), np.nan) if work.initial is None else work.initial.changed(here)
            moved[role][column] = mean(changed)
            for column_, source in enumerate(masks.sources):
                row = {"pack": source.label, "layer": place, "role": role, "weights": int(masks.sizes[here].sum())}
                row |= {"removed": int(masks.counts[here, column_].sum()), "share": share[column_]}
                if work.initial is not None:
                    row["changed_from_initial"] = changed[column_]
                if work.bins is not None:
                    row["explained_by_magnitude"] = _explained(work, here, column_)
                rows.append(row)
    work.add("layers", rows)
    next_figure = any(np.isfinite(v).any() for v in moved.values())
    work.draw(
        figures.grouped_bars(
            "layer_similarity",
            "Similarity above chance by layer",
            places,
            bars,
            (_LAYER, "mean over pairs"),
            captions.LAYER_SIMILARITY.format(next=captions.NEXT_FIGURE if next_figure else ""),
        )
    )
    if next_figure:
        work.draw(
            figures.grouped_bars(
                "layer_changed",
                "How far masks left their initial ones",
                places,
                {role: 100 * v for role, v in moved.items()},
                (_LAYER, "% of the removed weights"),
                captions.LAYER_CHANGED,
            )
        )
    shares = np.concatenate(list(cut.values()))
    if np.nanmax(shares) - np.nanmin(shares) > 1e-3:
        work.draw(
            figures.grouped_bars(
                "layer_removed",
                "Where masks cut",
                places,
                {role: 100 * v for role, v in cut.items()},
                (_LAYER, "% of the weights removed"),
                captions.LAYER_REMOVED,
            )
        )


def where(work: Work) -> None:
    """Units and heads, and removal by magnitude."""
    work.add("units", list(units(work.masks)))
    if work.resident is None:
        return
    work.add("heads", list(heads(work.masks, work.resident.module)))
    _magnitudes(work)


def _magnitudes(work: Work) -> None:
    """Of the packs whose masks are of the backbone's weights; steps without weights are left out."""
    sources = [source for source, follows in zip(work.masks.sources, work.follows, strict=True) if follows]
    if not sources:
        return
    removed, sizes = work.bins[0][:, work.follows], work.bins[1]
    steps = min(20, removed.shape[-1])
    edges = np.arange(steps + 1) * removed.shape[-1] // steps
    together, all_sizes = removed.sum(0), sizes.sum(0)
    ranges = [(a, b) for a, b in itertools.pairwise(edges) if all_sizes[a:b].any()]
    share = np.stack([together[:, a:b].sum(1) / all_sizes[a:b].sum() for a, b in ranges], 1)
    centres = [50 * (a + b) / removed.shape[-1] for a, b in ranges]
    labels = [source.label for source in sources]
    work.add(
        "magnitudes",
        [
            {"pack": label, "magnitude_percentile": centre, "share_removed": share[place, step]}
            for place, label in enumerate(labels)
            for step, centre in enumerate(centres)
        ],
    )
    work.draw(
        figures.curves(
            "magnitudes",
            "Which weights go, by magnitude",
            centres,
            {label: 100 * share[place] for place, label in enumerate(labels)},
            ("percentile of the weight's magnitude in its matrix", "% removed"),
            captions.MAGNITUDES.format(
                initial=captions.BY_WEIGHT if work.granularities == ["unstructured"] else captions.BY_UNIT
            ),
            groups=[source.route for source in sources],
        )
    )


def shared_weights(work: Work) -> None:
    """How many weights one, some or all packs remove."""
    known = work.overlaps.given_magnitude is not None and work.follows.all()
    found = shared(work.masks, work.bins if known else None)
    total, count = int(work.masks.sizes.sum()), len(work.masks.sources)
    rows = []
    for times in range(count + 1):
        row = {"removed_by": times, "weights": int(found.weights[times]), "share": found.weights[times] / total}
        row["expected_by_chance"] = found.expected[times] / total
        if found.given_magnitude is not None:
            row["expected_given_magnitude"] = found.given_magnitude[times] / total
        rows.append(row)
    work.add("shared", rows)
    series = {"found": 100 * found.weights[1:] / total, "by chance": 100 * found.expected[1:] / total}
    if found.given_magnitude is not None:
        series["given the magnitudes"] = 100 * found.given_magnitude[1:] / total
    values = {"used": found.used, "kept": found.kept_by_all, "total": total, "share": 100 * found.used / total}
    values["magnitudes"] = captions.BY_MAGNITUDES if found.given_magnitude is not None else captions.WITHOUT_MAGNITUDES
    work.draw(
        figures.grouped_bars(
            "shared",
            "Weights that one, some or all masks remove",
            [str(n) for n in range(1, count + 1)],
            series,
            ("packs that remove a weight", "% of the masked weights"),
            captions.SHARED.format(**values),
        )
    )


def _layers(masks: MaskSet) -> tuple[list[str], list[str]]:
    """Places and roles, in the order of the model."""
    weights = sorted(masks.weights, key=lambda w: (w.stack == "decoder", -1 if w.layer is None else w.layer))
    return list(dict.fromkeys(w.place for w in weights)), list(dict.fromkeys(w.role for w in masks.weights))
