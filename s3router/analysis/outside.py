"""The masks against the world: typology and other measures of pairs, and what they do to representations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3router.analysis import captions, figures, typology
from s3router.analysis.drawing import number
from s3router.analysis.figures import Figure
from s3router.analysis.mask_set import read_sources
from s3router.analysis.ordered import Served, Within, served, within
from s3router.analysis.relations import Correlation, mantel
from s3router.analysis.representation import Alignment, align
from s3router.analysis.tables import UNMASKED
from s3router.analysis.work import NO_LANGUAGE, Work, mean


@dataclass(frozen=True)
class Measure:
    """Something known of pairs of routes.

    Attributes:
        title: what it is, in words.
        routes: that it is known of.
        values: float64 (routes, routes), symmetric; NaN: not known of this pair.
        missing: routes of which nothing is known.
        features: int64 (routes, routes), what each value rests on; None: it does not say.
    """

    title: str
    routes: tuple[str, ...]
    values: np.ndarray
    missing: tuple[str, ...]
    features: np.ndarray | None = None


def relations(work: Work) -> None:
    """Correlations with typology and with measures that were given."""
    similarity = _by_route(work)
    rows, pairs, few = [], [], []
    for name, measure in _measures(work).items():
        names, values = measure.routes, measure.values
        if len(names) < 3:
            few.append(name)
            continue
        places = [work.routes.index(route) for route in names]
        here = similarity[np.ix_(places, places)]
        found = mantel(here, values, work.job.permutations, work.job.seed)
        rows.append(_relation_row(name, measure, found))
        known = np.argwhere(np.triu(~np.isnan(values) & ~np.isnan(here), 1))
        for a, b in known:
            pair = {"measure": name, "a": names[a], "b": names[b], "value": values[a, b], "above_chance": here[a, b]}
            pairs.append(pair | {"features": None if measure.features is None else int(measure.features[a, b])})
        drawn = [(f"{names[a]}–{names[b]}", float(values[a, b]), float(here[a, b])) for a, b in known]
        title, said = f"Masks and {measure.title}", _relation_caption(measure, found, work.codes)
        work.draw(figures.scatter(f"relation_{name}", title, drawn, found, measure.title, said))
    if few:
        work.notes.append(captions.FEW_ROUTES.format(measures=", ".join(few)))
    work.add("relations", rows)
    work.add("relation_pairs", pairs)


def _relation_caption(measure: Measure, found: Correlation, codes: Mapping[str, str]) -> str:
    """`codes`: route -> that of its language."""
    routes: dict[str, list[str]] = {}
    for route in measure.routes:
        if route in codes:
            routes.setdefault(codes[route], []).append(route)
    twice = "; ".join(f"{code}: {', '.join(same)}" for code, same in routes.items() if len(same) > 1)
    same = captions.SAME_LANGUAGE.format(twice=twice) if twice else ""
    left = f" Left out, since nothing is known of them: {', '.join(measure.missing)}." if measure.missing else ""
    return _few(found) + captions.RELATION + same + left


def _measures(work: Work) -> dict[str, Measure]:
    found = {}
    named = {*work.codes, *(route for route, code in work.job.languages.items() if code == NO_LANGUAGE)}
    if work.wanted and (others := [route for route in work.routes if route not in named]):
        work.notes.append(f"No language is known for {', '.join(others)} (--language ROUTE=CODE says it).")
    names = tuple(work.codes)
    for name in work.wanted if names else ():
        table = typology.features(name, [work.codes[route] for route in names], typology.needed_folder())
        values, features = table.similarity()
        found[name] = _measure(typology.MEANING[name], names, _known(values), values, features)
    for name, pairs in work.relate.items():
        values = pairs.levelled.symmetric if pairs.is_ordered else pairs.symmetric
        title = f"{name}, less each language's mean" if pairs.is_ordered else name
        found[name] = _measure(title, work.routes, _known(values), values, None)
    return found


def _known(values: np.ndarray) -> list[int]:
    """The routes of which something is known beside another; of a language without relatives no family is."""
    return [n for n in range(len(values)) if np.isfinite(np.delete(values[n], n)).any()]


def ordered(work: Work) -> None:
    """How well masks serve others, and whether similarity predicts it, where the order of a pair says something."""
    similarity, rows = _by_route(work), []
    for name, pairs in work.relate.items():
        if not pairs.is_ordered:
            continue
        known = np.isfinite(pairs.values)
        if (count := int(known.any(0).sum())) <= 3:
            work.notes.append(f"{name}: {count} languages are served; a correlation within each needs four.")
            continue
        places = np.flatnonzero(known.any(0) | known.any(1))  # masks may serve whose own languages are not served
        grid = np.ix_(places, places)
        here, values, bare = similarity[grid], pairs.values[grid], pairs.unmasked[places]
        found = within(here, values, work.job.permutations, seed=work.job.seed)
        means = served(here, values, bare)
        rows.append(
            {
                "measure": name,
                **{"p_two_sided" if key == "p" else key: value for key, value in vars(found).items()},
                **{f"mean_{key}": value for key, value in vars(means).items()},
            }
        )
        names = [work.routes[n] for n in places]
        serving, columns = np.isfinite(values).any(1), np.isfinite(values).any(0)
        matrix = np.vstack([bare[None], values[serving]] if np.isfinite(bare).any() else [values[serving]])[:, columns]
        labels = [route for route, serves in zip(names, serving, strict=True) if serves]
        labels = [UNMASKED, *labels] if len(matrix) > len(labels) else labels
        title = f"{name[0].upper()}{name[1:]}: masks that serve others"
        names = [route for route, is_served in zip(names, columns, strict=True) if is_served]
        work.draw(figures.matrix(f"ordered_{name}", title, labels, names, matrix, _ordered_caption(found, means)))
    work.add("ordered", rows)


def _ordered_caption(found: Within, means: Served) -> str:
    """Without what is not known."""
    said = {key: number(value) for key, value in (vars(found) | vars(means)).items()}
    parts = [captions.ORDERED]
    if means.languages:
        bare = captions.BARE.format(said["unmasked"]) if np.isfinite(means.unmasked) else ""
        parts.append(captions.SERVED.format(bare=bare, **said))
    if np.isfinite(found.spearman):
        interval = captions.INTERVAL if np.isfinite(found.low) else captions.NO_INTERVAL
        parts.append(captions.WITHIN.format(interval=interval.format(**said), **said))
        parts.append(_few(found))
    else:
        parts.append(captions.NOT_WITHIN)
    return "".join([*parts, captions.ORDERED_END])


def _few(found: Correlation | Within) -> str:
    """Where p cannot be small."""
    if not (found.exhaustive and found.permutations < 200):
        return ""
    return captions.FEW.format(permutations=found.permutations, least=number(1 / found.permutations))


def _measure(
    title: str, routes: Sequence[str], known: Sequence[int], values: np.ndarray, features: np.ndarray | None
) -> Measure:
    """Of the routes at these places."""
    grid = np.ix_(known, known)
    missing = tuple(route for n, route in enumerate(routes) if n not in known)
    return Measure(
        title, tuple(routes[n] for n in known), values[grid], missing, None if features is None else features[grid]
    )


def _by_route(work: Work) -> np.ndarray:
    """Similarity above chance (routes, routes), means over their packs."""
    members = {route: [n for n, s in enumerate(work.masks.sources) if s.route == route] for route in work.routes}
    return np.array([[mean(work.above[np.ix_(a, b)]) for b in members.values()] for a in members.values()])


def _relation_row(name: str, measure: Measure, found: Correlation) -> dict[str, Any]:
    return {
        "measure": name,
        "routes": found.items,
        "pairs": found.pairs,
        "spearman": found.spearman,
        "spearman_p_two_sided": found.p_spearman,
        "spearman_lowest_without_one": found.low,
        "spearman_highest_without_one": found.high,
        "pearson": found.pearson,
        "pearson_p_two_sided": found.p_pearson,
        "permutations": found.permutations,
        "missing": " ".join(measure.missing),
        "meaning": measure.title,
    }


def representation(work: Work) -> None:
    """What the weighted sums of layers take, and CKA on the audio that was given."""
    _layer_weights(work)
    if not work.job.recordings:
        work.notes.append(captions.NO_AUDIO)
        return
    work.tell(f"comparing representations on {len(work.job.recordings)} recordings")
    packs = read_sources(work.job.sources, work.resident.module, work.resident.fingerprint)
    named = [(label, pack) for label, (_, pack) in zip(work.masks.labels, packs, strict=True)]
    told = work.bar("representations")
    found = align(work.resident, named, work.job.recordings, work.job.frames, work.job.seed, told)
    rows = [
        {"a": found.labels[a], "b": found.labels[b], "layer": layer, "cka": found.cka[layer, a, b]}
        for layer in range(len(found.cka))
        for a, b in zip(*np.triu_indices(len(found.labels), 1), strict=True)
    ]
    work.add("representations", rows)
    work.draw(_cka_figure(found, [source.route for source in work.masks.sources]))


def _layer_weights(work: Work) -> None:
    weighted = [source for source in work.masks.sources if source.layer_weights is not None]
    if not weighted:
        return
    count = len(weighted[0].layer_weights)
    work.add(
        "layer_weights",
        [
            {"pack": source.label, "hidden_state": n, "weight": source.layer_weights[n], "uniform": 1 / count}
            for source in weighted
            for n in range(count)
        ],
    )
    work.draw(
        figures.curves(
            "layer_weights",
            "What the weighted sum of layers takes",
            list(range(count)),
            {source.label: source.layer_weights for source in weighted},
            ("hidden state (0 enters the transformer)", "weight"),
            captions.LAYER_WEIGHTS,
            level=("at the start", 1 / count),
            groups=[source.route for source in weighted],
        )
    )


def _cka_figure(found: Alignment, routes: Sequence[str]) -> Figure:
    return figures.curves(
        "representations",
        "Routed against frozen representations",
        list(range(len(found.cka))),
        {label: found.cka[:, 0, n] for n, label in enumerate(found.labels[1:], 1)},
        ("hidden state (0 enters the transformer)", "CKA with the frozen upstream"),
        captions.REPRESENTATIONS.format(**vars(found)),
        zero=False,
        groups=list(routes),
    )
