"""Correlations over ordered pairs: against slow definitions, planted effects, and none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from s3router.analysis.ordered import served, within
from s3router.analysis.tables import Pairs, read_pairs
from s3router.errors import ConfigError


def planted(items: int, seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A similarity, and errors that fall with it as far as `effect` says; languages differ in how hard they are."""
    generator = np.random.default_rng(seed)
    similarity = generator.uniform(size=(items, items))
    similarity = (similarity + similarity.T) / 2
    errors = generator.normal(size=(items, items)) - effect * similarity
    return similarity, errors + 10 * generator.uniform(size=items)  # columns


def slow(similarity: np.ndarray, values: np.ndarray, names: list[int]) -> float:
    """Within each served language that is named, over the names of others, as often as they are named."""
    found = []
    for b in names:
        a = [n for n in names if n != b and np.isfinite(values[n, b])]
        if len(set(a)) >= 3:
            found.append(spearmanr([similarity[n, b] for n in a], [values[n, b] for n in a]).statistic)
    return float(np.nanmean(found))


@pytest.mark.parametrize("missing", [(), ((0, 2), (3, 1))])
def test_equals_the_slow_definition(missing):
    similarity, values = planted(5, 1)
    for place in missing:
        values[place] = math.nan
    found = within(similarity, values, resamples=50)
    assert found.spearman == pytest.approx(slow(similarity, values, [*range(5)]))
    assert (found.items, found.pairs, found.permutations, found.exhaustive) == (5, 20 - len(missing), 120, True)
    others = [slow(similarity[np.ix_(p, p)], values, [*range(5)]) for p in map(list, itertools.permutations(range(5)))]
    assert found.p == pytest.approx(np.mean(np.abs(others) >= abs(found.spearman) - 1e-12))


def test_the_bootstrap_draws_languages():
    similarity, values = planted(7, 2)
    found = within(similarity, values, permutations=1, resamples=200, seed=3)
    generator = np.random.default_rng(3)
    drawn = [generator.integers(0, 7, 7).tolist() for _ in range(200)]
    usable = [names for names in drawn if len(set(names)) > 3]
    low, high = np.quantile([slow(similarity, values, names) for names in usable], (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_an_effect_is_found_whatever_languages_are_hard():
    similarity, values = planted(8, 4, effect=50)
    found = within(similarity, values, resamples=200)
    assert found.spearman < -0.9
    assert found.low <= found.spearman <= found.high < 0
    assert found.p < 0.01


def test_p_is_right_where_there_is_none():
    p = [within(*planted(5, seed), resamples=1).p for seed in range(100)]
    assert np.mean(np.array(p) <= 0.1) < 0.2
    assert 0.35 < np.mean(p) < 0.65


def test_permutations_without_a_correlation_do_not_count():
    """Of two masks that remove nothing no similarity is known: permuted, it leaves no language with three others."""
    similarity, values = planted(4, 3)
    similarity[0, 1] = similarity[1, 0] = math.nan
    found = within(similarity, values)
    assert found.permutations == 24
    others = []
    for order in map(list, itertools.permutations(range(4))):
        moved, ways = similarity[np.ix_(order, order)], []
        for b, a in ((2, [0, 1, 3]), (3, [0, 1, 2])):  # the others are served by two that are known
            if np.isfinite(moved[a, b]).all():
                ways.append(spearmanr(moved[a, b], values[a, b]).statistic)
        others += [np.mean(ways)] if ways else []
    assert len(others) == 20
    assert found.p == pytest.approx(np.mean(np.abs(others) >= abs(found.spearman) - 1e-12))


def test_the_diagonal_does_not_count():
    similarity, values = planted(5, 5)
    found = within(similarity, values, resamples=5)
    np.fill_diagonal(values, 1e9)
    np.fill_diagonal(similarity, math.nan)
    assert within(similarity, values, resamples=5) == found


def test_what_does_not_vary_and_what_is_too_little():
    similarity, _ = planted(5, 6)
    found = within(similarity, np.ones((5, 5)), resamples=5)
    assert all(map(math.isnan, (found.spearman, found.p, found.low, found.high)))
    with pytest.raises(ConfigError, match="3 items: 4 are needed"):
        within(similarity[:3, :3], similarity[:3, :3])
    with pytest.raises(ConfigError, match=r"one size are needed, found \(5, 5\) and \(4, 4\)"):
        within(similarity, similarity[:4, :4])


def test_what_choosing_by_similarity_is_worth():
    similarity = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1.0]])
    values = np.array([[0.1, 0.2, 0.5], [0.3, 0.1, 0.4], [0.5, 0.1, math.nan]])
    found = served(similarity, values, np.array([0.6, 0.8, math.nan]))
    assert found.languages == 2  # the third has no mask of its own
    means = (found.own, found.nearest, found.others, found.best, found.unmasked)
    assert means == pytest.approx((0.1, 0.25, 0.275, 0.2, 0.7))
    assert served(similarity, np.full((3, 3), math.nan), np.full(3, math.nan)).languages == 0


def test_repeated_rows_of_a_symmetric_measure_are_not_ordered(tmp_path):
    """The means of the same values in another order differ in the last digit."""
    values = (0.1, 0.2, 0.3)
    lines = [f"es,it,{value}" for value in values] + [f"it,es,{value}" for value in reversed(values)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,value", *lines]) + "\n")
    found = read_pairs(tmp_path / "t.csv", ["es", "it"])
    assert found.values[0, 1] != found.values[1, 0]
    assert not found.is_ordered
    (tmp_path / "t.csv").write_text("a,b,value\nes,it,0.3\nit,es,0.30001\n")
    assert read_pairs(tmp_path / "t.csv", ["es", "it"]).is_ordered


def test_pairs_and_their_orders():
    pairs = Pairs(np.array([[1.0, 2, 6], [4, 5, math.nan], [2, 4, 7]]), np.full(3, math.nan))
    assert pairs.is_ordered
    assert not Pairs(pairs.symmetric, pairs.unmasked).is_ordered
    assert Pairs(pairs.symmetric, np.array([1.0, 1, 1])).is_ordered
    assert pairs.symmetric.tolist() == [[1, 3, 4], [3, 5, 4], [4, 4, 7]]
    assert np.array_equal(pairs.levelled.values, [[-2, -1, 0], [1, 2, math.nan], [-1, 1, 1]], equal_nan=True)


def test_levelling_leaves_no_rounding():
    """Which ranks would take for an order: 0.1 added up three times is not 0.3."""
    values = np.full((4, 4), 0.1)
    assert (values[:3, 0].sum() / 3) != 0.1
    assert not Pairs(values, np.full(4, math.nan)).levelled.values.any()
