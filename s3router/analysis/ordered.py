"""Does similarity predict how well the mask of one route serves another? Correlations over ordered pairs.

Languages differ in how hard they are, which a correlation over all pairs would take for an effect. So masks are ranked
within each language that they serve, and these correlations are averaged. Pairs share languages: permutations and
bootstrap samples are of languages, not of pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from s3router.analysis.relations import correlate_ranks, permutations_of, square
from s3router.errors import ConfigError

_LEAST = 3  # masks that serve a language, for a correlation within it


@dataclass(frozen=True)
class Within:
    """Of similarity with a measure of ordered pairs.

    Attributes:
        items: routes that serve, or are served.
        pairs: ordered pairs of two that are known.
        spearman: within each served language over the masks of others, mean over languages; NaN where nothing varies.
        low, high: 95 % of bootstrap samples of languages; NaN where most samples have no correlation, since fewer than
            four languages are among them: there is no interval of less than six.
        p: two-sided: of the permutations of routes that leave a correlation, the share whose correlation is as far from
            0, the one as it is included.
        permutations: gone through.
        exhaustive: these were all there are.
    """

    items: int
    pairs: int
    spearman: float
    low: float
    high: float
    p: float
    permutations: int
    exhaustive: bool


def within(
    similarity: np.ndarray, values: np.ndarray, permutations: int = 9_999, resamples: int = 2_000, seed: int = 0
) -> Within:
    """Correlate similarity with a measure of ordered pairs, within each column of the latter.

    Args:
        similarity: float64 (items, items), symmetric; its diagonal does not count.
        values: float64 (items, items): of the mask of the row and the language of the column, such as error rates. Its
            diagonal does not count; NaN: not known.
        permutations: at random, where there are more than 8! of them; and the one as it is.
        resamples: of the bootstrap.
        seed: of both.

    Raises:
        ConfigError: matrices of different shapes, or fewer than four items.
    """
    similarity, values = square(similarity, values)
    items = len(values)
    if items < _LEAST + 1:
        raise ConfigError(f"{items} items: {_LEAST + 1} are needed, so that each is served by {_LEAST} others")
    np.fill_diagonal(values, np.nan)
    values[np.isnan(similarity)] = np.nan
    blocks, exhaustive = permutations_of(items, permutations, seed)
    found = float(_mean(similarity, values, np.arange(items)[None])[0])
    as_far = defined = total = 0
    for block in blocks:
        others = np.abs(_mean(similarity, values, block))
        as_far += int((others >= abs(found) - 1e-12).sum())
        defined += int(np.isfinite(others).sum())  # a similarity that is not known may come to stand everywhere
        total += len(block)
    low, high = _bootstrap(similarity, values, resamples, seed)
    p = math.nan if math.isnan(found) else as_far / defined
    return Within(items, int(np.isfinite(values).sum()), found, low, high, p, total, exhaustive)


def _mean(similarity: np.ndarray, values: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Mean correlation within columns, with the items of `similarity` reordered in each way (ways, items): (ways,)."""
    parts = []
    for b in range(len(values)):
        serving = np.flatnonzero(np.isfinite(values[:, b]))
        if len(serving) >= _LEAST:
            x = similarity[orders[:, serving], orders[:, b][:, None]]
            parts.append(correlate_ranks(x, np.broadcast_to(values[serving, b], x.shape)))
    return _known_mean(np.array(parts)) if parts else np.full(len(orders), np.nan)


def _known_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Over the first axis, of what is known; NaN of nothing."""
    known = np.isfinite(values) * (1.0 if weights is None else weights[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(np.where(known > 0, values, 0) * known, 0) / known.sum(0)


def _bootstrap(similarity: np.ndarray, values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Of samples of languages with replacement; a language that is drawn twice serves, and is served, twice."""
    generator = np.random.default_rng(seed)
    items, found = len(values), []
    for _ in range(resamples):
        drawn = generator.integers(0, items, items)
        parts, weights = [], []
        for b, times in zip(*np.unique(drawn, return_counts=True), strict=True):
            serving = drawn[np.isfinite(values[drawn, b])]
            if len(set(serving.tolist())) >= _LEAST:
                parts.append(correlate_ranks(similarity[serving, b][None], values[serving, b][None]))
                weights.append(times)
        if parts:
            found.append(float(_known_mean(np.array(parts), np.array(weights))[0]))
    known = np.array(found)[np.isfinite(found)] if found else np.array([])
    if len(known) < resamples / 2:
        return math.nan, math.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True)
class Served:
    """Error rates of masks that serve, means over the languages of which all of these are known.

    Attributes:
        own: the language's own mask.
        nearest: of the other masks, the one most similar to its own.
        others: their mean.
        best: the best of them.
        unmasked: the upstream without a mask; NaN where it is not known.
        languages: of the first four.
    """

    own: float
    nearest: float
    others: float
    best: float
    unmasked: float
    languages: int


def served(similarity: np.ndarray, values: np.ndarray, unmasked: np.ndarray) -> Served:
    """What it is worth to choose a mask by its similarity.

    Args:
        similarity, values: as of `within`, the diagonal of `values` included.
        unmasked: float64 (items,), the measure of the upstream without a mask.
    """
    rows = []
    for b in range(len(values)):
        others = [
            a for a in range(len(values)) if a != b and np.isfinite(values[a, b]) and np.isfinite(similarity[a, b])
        ]
        if others and np.isfinite(values[b, b]):
            nearest = max(others, key=lambda a: similarity[a, b])
            errors = values[others, b]
            rows.append((values[b, b], values[nearest, b], errors.mean(), errors.min(), unmasked[b]))
    if not rows:
        return Served(*[math.nan] * 5, 0)
    *four, bare = np.array(rows).T
    return Served(*(float(column.mean()) for column in four), float(bare.mean()), len(rows))
