"""The Mantel test against going through every permutation by hand."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from s3router.analysis.relations import mantel
from s3router.errors import ConfigError


def symmetric(items: int, seed: int) -> np.ndarray:
    half = np.triu(np.random.default_rng(seed).random((items, items)), 1)
    return half + half.T


def pairs(matrix: np.ndarray) -> list[float]:
    return [matrix[i, j] for i, j in itertools.combinations(range(len(matrix)), 2)]


@pytest.mark.parametrize("items", [3, 5, 6])
def test_equals_every_permutation(items):
    first, second = symmetric(items, 1), symmetric(items, 2) + symmetric(items, 1)
    found = mantel(first, second)
    for measure, r, p in ((pearsonr, found.pearson, found.p_pearson), (spearmanr, found.spearman, found.p_spearman)):
        here = measure(pairs(first), pairs(second)).statistic
        every = []
        for order in itertools.permutations(range(items)):
            moved = np.array([[first[a, b] for b in order] for a in order])
            every.append(measure(pairs(moved), pairs(second)).statistic)
        assert r == pytest.approx(here)
        assert p == pytest.approx(np.mean([abs(value) >= abs(here) - 1e-12 for value in every]))
    assert (found.items, found.pairs, found.permutations, found.exhaustive) == (
        items,
        items * (items - 1) // 2,
        math.factorial(items),
        True,
    )


def test_the_sign_does_not_matter():
    """Of error rates the correlation is expected below 0: it is as significant as its mirror image."""
    alike = symmetric(6, 1)
    errors = 1 - alike + 0.01 * symmetric(6, 2)
    found, mirrored = mantel(alike, errors), mantel(alike, -errors)
    assert found.pearson == pytest.approx(-mirrored.pearson)
    assert found.pearson < -0.99
    assert found.p_pearson == mirrored.p_pearson == pytest.approx(1 / 720)
    assert found.p_spearman == mirrored.p_spearman == pytest.approx(1 / 720)


def test_random_permutations_come_near(monkeypatch):
    first, second = symmetric(7, 1), symmetric(7, 2) + symmetric(7, 1)
    every = mantel(first, second)
    monkeypatch.setattr("s3router.analysis.relations._EXHAUSTIVE", 6)
    some = mantel(first, second, permutations=4999, seed=3)
    assert (some.permutations, some.exhaustive) == (5000, False)
    assert some.p_pearson == pytest.approx(every.p_pearson, abs=0.02)
    assert some.pearson == every.pearson
    assert some == mantel(first, second, permutations=4999, seed=3)


def test_p_is_right_where_nothing_is_related():
    """Of independent matrices 5 % are significant at 5 %, though pairs share items."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(200):
        places = rng.random((2, 6, 2))  # of items on a map, so that pairs depend on each other
        first, second = (np.linalg.norm(p[:, None] - p[None], axis=2) for p in places)
        small += mantel(first, second).p_pearson <= 0.05
    assert 2 <= small <= 20


def test_unknown_pairs_are_left_out():
    first, second = symmetric(5, 1), symmetric(5, 2)
    second[1, 3] = second[3, 1] = np.nan
    found = mantel(first, second)
    known = [(a, b) for a, b in zip(pairs(first), pairs(second), strict=True) if not math.isnan(b)]
    assert found.pairs == 9
    assert found.spearman == pytest.approx(spearmanr(*zip(*known, strict=True)).statistic)


def test_permutations_without_a_correlation_do_not_count():
    """Gaps in both may leave two pairs."""
    first, second = symmetric(5, 3), symmetric(5, 4)
    for matrix, gaps in ((first, [(0, 1), (0, 2), (1, 2), (3, 4)]), (second, [(0, 1), (0, 2), (1, 3), (2, 4)])):
        for a, b in gaps:
            matrix[a, b] = matrix[b, a] = np.nan
    found, every = mantel(first, second), []
    for order in itertools.permutations(range(5)):
        moved = np.array([[first[a, b] for b in order] for a in order])
        known = [(a, b) for a, b in zip(pairs(moved), pairs(second), strict=True) if not math.isnan(a + b)]
        every.append(spearmanr(*zip(*known, strict=True)).statistic if len(known) > 2 else math.nan)
    known = np.abs([value for value in every if not math.isnan(value)])
    assert len(known) < 120
    assert found.p_spearman == pytest.approx(np.mean(known >= abs(found.spearman) - 1e-12))


def test_the_range_without_one_item():
    first, second = symmetric(5, 1), symmetric(5, 2)
    found = mantel(first, second)
    without = []
    for item in range(5):
        keep = [n for n in range(5) if n != item]
        without.append(spearmanr(pairs(first[np.ix_(keep, keep)]), pairs(second[np.ix_(keep, keep)])).statistic)
    assert (found.low, found.high) == pytest.approx((min(without), max(without)))
    assert math.isnan(mantel(symmetric(4, 1), symmetric(4, 2)).low)


def test_gaps_cost_no_more_than_none():
    """What is not known of one matrix is left out of all permutations at once: 40,320 of eight items."""
    first, second = symmetric(8, 1), symmetric(8, 2)
    second[1, 3] = second[3, 1] = np.nan
    begun = time.process_time()
    found = mantel(first, second)
    assert time.process_time() - begun < 3
    assert (found.pairs, found.permutations) == (27, 40_320)


@pytest.mark.parametrize("item", [0, 2, 4])
def test_there_is_no_range_where_one_item_is_all_that_varies(item):
    """Wherever it stands: without it nothing is left to correlate, so the range of the others would mislead."""
    second = np.zeros((5, 5))
    second[item, :] = second[:, item] = np.arange(5)
    second[item, item] = 0
    found = mantel(symmetric(5, 1), second)
    assert math.isfinite(found.spearman)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [0.1, 123_456.7, 1e-9])
def test_what_is_constant_but_for_rounding_has_no_correlation(value):
    found = mantel(symmetric(8, 1), np.full((8, 8), value))
    assert math.isnan(found.pearson)
    assert math.isnan(found.p_pearson)


def test_units_do_not_matter():
    first, second = symmetric(5, 1), symmetric(5, 2)
    found, small = mantel(first, second), mantel(first, 1e-13 * second)
    assert small.pearson == pytest.approx(found.pearson)
    assert small.p_pearson == found.p_pearson


def test_what_does_not_vary_has_no_correlation():
    found = mantel(np.ones((4, 4)), symmetric(4, 1))
    assert math.isnan(found.pearson)
    assert math.isnan(found.p_pearson)


def test_refusals():
    with pytest.raises(ConfigError, match="2 items have 1 pairs"):
        mantel(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ConfigError, match="one size"):
        mantel(np.ones((4, 4)), np.ones((5, 5)))
