"""Similarity of masks, with what independent masks of the same sparsities would reach by chance.

With `n` weights in a matrix of which one mask removes `a` and the other `b`, both remove X of them. If one of the two
had been drawn at random, X would follow the hypergeometric distribution: mean ab/n, variance
ab(n − a)(n − b) / (n²(n − 1)). Matrices are independent, so means and variances add. Cosine, agreement and Jaccard all
rise with X when a and b are given, so one z-score holds for all three.

Cosine similarity is the measure of arXiv 2211.01522; it is high by chance alone, about 1 − sparsity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s3router.analysis.mask_set import MaskSet
from s3router.masks.config import parse_n_m

_BLOCK = 1 << 13  # words that are compared at a time: those of 50 masks stay in the cache of a core


@dataclass(frozen=True)
class Overlap:
    """Of two masks (or arrays of pairs): all float64 arrays of one shape.

    Attributes:
        total: weights.
        first, second: removed by each.
        common: removed by both.
        expected: of `common`, by chance.
        variance: of `common`, by chance; NaN where no law is known.
    """

    total: np.ndarray
    first: np.ndarray
    second: np.ndarray
    common: np.ndarray
    expected: np.ndarray
    variance: np.ndarray

    @property
    def cosine(self) -> np.ndarray:
        """Of the masks as vectors of ones (kept) and zeros (removed); NaN where one keeps nothing."""
        return self._cosine(self.common)

    @property
    def cosine_chance(self) -> np.ndarray:
        """Expected of independent masks."""
        return self._cosine(self.expected)

    @property
    def jaccard(self) -> np.ndarray:
        """Intersection over union of the removed weights; 1 where neither removes any."""
        return self._jaccard(self.common)

    @property
    def jaccard_chance(self) -> np.ndarray:
        """With the expected intersection."""
        return self._jaccard(self.expected)

    @property
    def agreement(self) -> np.ndarray:
        """The share of weights that both keep or both remove."""
        return self._agreement(self.common)

    @property
    def agreement_chance(self) -> np.ndarray:
        """Expected of independent masks."""
        return self._agreement(self.expected)

    @property
    def above_chance(self) -> np.ndarray:
        """Where the cosine lies between chance (0) and equal masks (1), at every sparsity; NaN at sparsity 0."""
        chance = self.cosine_chance
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(chance < 1, (self.cosine - chance) / (1 - chance), np.nan)

    @property
    def z(self) -> np.ndarray:
        """Deviations of `common` from chance; NaN where chance does not vary, or no law is known."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.variance > 0, (self.common - self.expected) / np.sqrt(self.variance), np.nan)

    def _cosine(self, common: np.ndarray) -> np.ndarray:
        length = np.sqrt((self.total - self.first) * (self.total - self.second))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(length > 0, (self.total - self.first - self.second + common) / length, np.nan)

    def _jaccard(self, common: np.ndarray) -> np.ndarray:
        union = self.first + self.second - common
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(union > 0, common / union, 1.0)

    def _agreement(self, common: np.ndarray) -> np.ndarray:
        return (self.total - self.first - self.second + 2 * common) / self.total


def common_removed(bits: np.ndarray) -> np.ndarray:
    """uint64 (masks, words) -> int64 (masks, masks): bits that are 1 in both."""
    count = len(bits)
    found = np.zeros((count, count), np.int64)
    for start in range(0, bits.shape[1], _BLOCK):
        block = np.ascontiguousarray(bits[:, start : start + _BLOCK])
        for one in range(count):
            found[one, one:] += np.bitwise_count(block[one:] & block[one]).sum(1, dtype=np.int64)
    return np.triu(found) + np.triu(found, 1).T


def hypergeometric_variance(total: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Variance of the intersection of `first` and `second` of `total`, one of them drawn at random (broadcast)."""
    total, first, second = (np.asarray(values, np.float64) for values in (total, first, second))
    numerator = first * second * (total - first) * (total - second)
    return np.where(total > 1, numerator / (total**2 * np.maximum(total - 1, 1)), 0.0)


def law(shape: tuple[int, int], granularity: str) -> tuple[float, float, float]:
    """How masks of a granularity are drawn: (strata, units in each, weights of a unit).

    `granularity` as in `s3router.masks.MaskConfig`: rows, columns, or N of each M neighbours go together.
    """
    rows, columns = shape
    if granularity == "output":
        return 1, rows, columns
    if granularity == "input":
        return 1, columns, rows
    if n_m := parse_n_m(granularity):
        return rows * columns / n_m[1], n_m[1], 1
    return 1, rows * columns, 1


def variance_of(
    shape: tuple[int, int], granularities: tuple[str, str], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Variance of the common removed weights of one matrix by chance.

    Args:
        granularities: of the two masks. Where one is unstructured it is the one that is drawn at random; of two that
            are structured differently no law is known here, nor of groups, whose size masks do not tell (NaN).
    """
    one, other = granularities
    if (one != other and "unstructured" not in granularities) or one == other == "group":
        return np.full(np.broadcast_shapes(np.shape(first), np.shape(second)), np.nan)
    strata, units, weight = law(shape, one if one == other else "unstructured")
    drawn = (np.asarray(removed) / (strata * weight) for removed in (first, second))
    return weight**2 * strata * hypergeometric_variance(units, *drawn)


@dataclass(frozen=True)
class Overlaps:
    """The common removed weights of every pair of a set, matrix by matrix.

    Attributes:
        masks: the set.
        common: int64 (matrices, sources, sources).
        expected, variance: float64, the same shape, of independent masks.
        given_magnitude: (expected, variance) of masks that are independent but for how each depends on the weights'
            magnitudes, NaN where one follows other weights; None: the magnitudes are not known.
    """

    masks: MaskSet
    common: np.ndarray
    expected: np.ndarray
    variance: np.ndarray
    given_magnitude: tuple[np.ndarray, np.ndarray] | None = None

    def over(self, rows: np.ndarray, given_magnitude: bool = False) -> Overlap:
        """Summed over these matrices: arrays (sources, sources)."""
        counts = self.masks.counts[rows].sum(0).astype(np.float64)
        total = np.full(self.common.shape[1:], float(self.masks.sizes[rows].sum()))
        expected, variance = (self.expected, self.variance)
        if given_magnitude:
            expected, variance = self.given_magnitude
        return Overlap(
            total,
            np.broadcast_to(counts[:, None], total.shape),
            np.broadcast_to(counts[None], total.shape),
            self.common[rows].sum(0).astype(np.float64),
            expected[rows].sum(0),
            variance[rows].sum(0),
        )

    def scopes(self) -> Iterator[tuple[str, str, Overlap, Overlap | None]]:
        """(kind, name, overlap, overlap with chance given the magnitudes) of `MaskSet.scopes`."""
        for kind, name, rows in self.masks.scopes():
            yield kind, name, self.over(rows), self.over(rows, True) if self.given_magnitude else None


def overlaps(
    masks: MaskSet,
    by_magnitude: tuple[np.ndarray, np.ndarray] | None = None,
    follows: np.ndarray | None = None,
) -> Overlaps:
    """Compare every pair.

    Args:
        by_magnitude: removed weights int64 (matrices, sources, bins) and sizes int64 (matrices, bins) of bins of the
            weights' magnitudes, as `s3router.analysis.cuts.Magnitudes` counts them.
        follows: bool (sources,), whose masks are of the weights in these bins; None: all.
    """
    counts = masks.counts.astype(np.float64)
    first, second = counts[:, :, None], counts[:, None, :]
    expected = first * second / masks.sizes[:, None, None]
    kinds = [str(source.meta.mask.get("granularity", "unstructured")) for source in masks.sources]
    variance = np.empty_like(expected)
    for row, weight in enumerate(masks.weights):
        for one, kind in enumerate(kinds):
            for other in set(kinds):
                there = np.array([k == other for k in kinds])
                variance[row, one, there] = variance_of(
                    weight.shape, (kind, other), counts[row, one], counts[row, there]
                )
    given = None
    if by_magnitude is not None:
        removed, sizes = by_magnitude
        pairs = [_given_bins(removed[row].astype(np.float64), sizes[row]) for row in range(len(masks.weights))]
        given = np.stack([e for e, _ in pairs]), np.stack([v for _, v in pairs])
        if follows is not None:
            given = tuple(np.where(follows[:, None] & follows, values, np.nan) for values in given)
        if set(kinds) != {"unstructured"}:  # rows and columns are of all magnitudes
            given = None
    common = np.stack([common_removed(bits) for bits in masks.removed])
    return Overlaps(masks, common, expected, variance, given)


def _given_bins(removed: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected intersection and its variance (sources, sources) of masks drawn independently within each bin.

    Args:
        removed: float64 (sources, bins).
        sizes: int64 (bins,); empty ones, beside many equal magnitudes, add nothing.
    """
    sizes = np.maximum(sizes, 1)
    expected = (removed / sizes) @ removed.T
    spread = removed * (sizes - removed) / sizes
    return expected, (spread / np.maximum(sizes - 1, 1)) @ spread.T
