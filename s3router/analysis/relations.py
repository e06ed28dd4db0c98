"""Does one measure of pairs go with another? Correlations of similarity matrices, with the Mantel test.

Pairs share languages, so the p-value of an ordinary correlation does not hold. Mantel's test (Mantel, The detection of
disease clustering and a generalized regression approach, Cancer Research 27, 1967) permutes the languages of one
matrix, rows and columns together, and asks how often the correlation is as far from 0: two-sided, since of error rates
it is expected below 0, and of typology above.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s3router.errors import ConfigError

_EXHAUSTIVE = 8  # items: up to 40,320 permutations are all gone through
_BLOCK = 2048


@dataclass(frozen=True)
class Correlation:
    """Of two similarity matrices over the same items.

    Attributes:
        items, pairs: how many were known.
        pearson, spearman: over the pairs; NaN where one does not vary.
        p_pearson, p_spearman: two-sided, the share of permutations whose correlation is as far from 0, the one as it is
            included. It is at least 1/`permutations`.
        permutations: gone through.
        exhaustive: these were all there are.
        low, high: of Spearman's, when any one item is left out; NaN below five items, or where one of them leaves
            nothing to correlate.
    """

    items: int
    pairs: int
    pearson: float
    spearman: float
    p_pearson: float
    p_spearman: float
    permutations: int
    exhaustive: bool
    low: float
    high: float


def square(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as new float64 arrays (items, items). Raises ConfigError: not square, or of different sizes."""
    first, second = np.array(first, np.float64), np.array(second, np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] != first.shape[1]:
        raise ConfigError(f"two square matrices of one size are needed, found {first.shape} and {second.shape}")
    return first, second


def mantel(first: np.ndarray, second: np.ndarray, permutations: int = 9_999, seed: int = 0) -> Correlation:
    """Correlate the pairs above the diagonal of two symmetric matrices (items, items).

    Args:
        first: float64; its diagonal does not count.
        second: the same shape. Pairs that are NaN in either are left out, under every permutation.
        permutations: at random, where there are more than 8! of them; and the one as it is.
        seed: of the permutations.

    Raises:
        ConfigError: fewer than three items, or matrices of different shapes.
    """
    first, second = square(first, second)
    items = len(first)
    if items < 3:
        raise ConfigError(f"{items} items have {items * (items - 1) // 2} pairs, which correlate with anything")
    pairs = np.triu_indices(items, 1)
    known = int((~np.isnan(first[pairs]) & ~np.isnan(second[pairs])).sum())
    pearson, spearman = (_correlation(first, second, np.arange(items)[None], ranks)[0] for ranks in (False, True))
    blocks, exhaustive = permutations_of(items, permutations, seed)
    as_far, defined, total = np.zeros(2, np.int64), np.zeros(2, np.int64), 0
    for block in blocks:
        for place, (found, ranks) in enumerate(((pearson, False), (spearman, True))):
            others = np.abs(_correlation(first, second, block, ranks))
            as_far[place] += int((others >= abs(found) - 1e-12).sum())
            defined[place] += int(np.isfinite(others).sum())  # gaps may leave too few pairs under a permutation
        total += len(block)
    p = [
        math.nan if math.isnan(found) else n / known_
        for found, n, known_ in zip((pearson, spearman), as_far, defined, strict=True)
    ]
    without = [math.nan]
    if items >= 5:
        rest = (np.delete(np.arange(items), item) for item in range(items))
        every = [(first[np.ix_(keep, keep)], second[np.ix_(keep, keep)]) for keep in rest]
        without = [_correlation(a, b, np.arange(items - 1)[None], True)[0] for a, b in every]
    low, high = float(np.min(without)), float(np.max(without))  # NaN where any is: all hangs on this item then
    return Correlation(items, known, float(pearson), float(spearman), *p, total, exhaustive, low, high)


def permutations_of(items: int, count: int, seed: int) -> tuple[Iterator[np.ndarray], bool]:
    """(blocks int64 (some, items), whether these are all there are): as they are and `count` at random, above 8!."""
    return _permutations(items, count, seed), items <= _EXHAUSTIVE


def correlate_ranks(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's of each row of two matrices (rows, values) without NaN: float64 (rows,); NaN where one is constant."""
    return _pearson(_ranks(a), _ranks(b))


def _permutations(items: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks int64 (some, items): all there are, or as they are and `count` at random."""
    if items <= _EXHAUSTIVE:
        every = itertools.permutations(range(items))
        while block := list(itertools.islice(every, _BLOCK)):
            yield np.array(block)
        return
    generator = np.random.default_rng(seed)
    yield np.arange(items)[None]
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        yield generator.permuted(np.tile(np.arange(items), (size, 1)), axis=1)


def _correlation(first: np.ndarray, second: np.ndarray, orders: np.ndarray, ranks: bool) -> np.ndarray:
    """Correlation of `first`, reordered in each way (ways, items), with `second`: float64 (ways,)."""
    rows, columns = np.triu_indices(first.shape[0], 1)
    known = ~np.isnan(second[rows, columns])  # the same in every way
    rows, columns = rows[known], columns[known]
    a, b = first[orders[:, rows], orders[:, columns]], second[rows, columns][None]
    if a.shape[1] <= 2:
        return np.full(len(a), np.nan)
    missing = np.isnan(a)
    if not missing.any():
        return _pearson(*((_ranks(a), _ranks(b)) if ranks else (a, b)))
    found = np.empty(len(a))
    for way, gone in enumerate(missing):
        x, y = a[way : way + 1, ~gone], b[:, ~gone]
        found[way] = _pearson(*((_ranks(x), _ranks(y)) if ranks else (x, y)))[0] if x.size > 2 else np.nan
    return found


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (a, varies), (b, also) = _centred(a), _centred(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies & also, (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)), np.nan)


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row less its mean; and whether it varies by more than rounding."""
    varies = np.ptp(values, 1) > 1e-12 * np.abs(values).max(1, initial=0)
    return values - values.mean(1, keepdims=True), varies


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each row, equal values at their mean."""
    from scipy.stats import rankdata

    return rankdata(values, axis=1)
