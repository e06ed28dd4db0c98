"""Similarities on packed bits against slow definitions on bool tensors, and chance against draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from s3router.analysis.cuts import Magnitudes
from s3router.analysis.mask_set import Weight, mask_set, removed_words, unpack
from s3router.analysis.similarity import (
    Overlap,
    common_removed,
    hypergeometric_variance,
    overlaps,
    variance_of,
)
from s3router.errors import ConfigError, PackError
from tests.analysis.conftest import make, with_mask


@pytest.fixture(scope="module")
def packs(backbone):
    named = [("es", 0.1), ("it", 0.1), ("ru", 0.3)]
    return [(f"{route}.pack", make(backbone, route, sparsity=s)) for route, s in named]


def test_the_words_hold_the_mask():
    mask = torch.rand(7, 19) > 0.3
    words = removed_words(mask)
    assert words.dtype == np.uint64
    assert len(words) == math.ceil(7 * 19 / 64)
    assert (unpack(words, 133).reshape(7, 19) == ~mask.numpy()).all()
    assert int(np.bitwise_count(words).sum()) == int((~mask).sum())


def test_common_bits_are_those_of_a_slow_count():
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**63, (5, 20_000), dtype=np.uint64)  # more than a block
    slow = [[sum(int(n) for n in np.bitwise_count(a & b)) for b in bits] for a in bits]
    assert common_removed(bits).tolist() == slow


def test_everything_equals_the_definitions(packs):
    found = overlaps(mask_set(packs))
    for kind, name, overlap, _ in found.scopes():
        wanted = [n for n, w in enumerate(found.masks.weights) if name in ("all", w.place, w.role)]
        names = [found.masks.weights[n].name for n in wanted]
        for i, j in itertools.product(range(3), repeat=2):
            a, b = (
                torch.cat([pack.masks[n].reshape(-1) for n in names]).double() for pack in (packs[i][1], packs[j][1])
            )
            assert overlap.cosine[i, j] == pytest.approx(float(a @ b / a.norm() / b.norm())), (kind, name)
            assert overlap.agreement[i, j] == pytest.approx(float((a == b).double().mean()))
            gone = (1 - a).bool(), (1 - b).bool()
            assert overlap.jaccard[i, j] == pytest.approx(float((gone[0] & gone[1]).sum() / (gone[0] | gone[1]).sum()))


def test_by_hand():
    both = Overlap(*(np.array(float(n)) for n in (4, 2, 2, 1, 1, 1 / 3)))
    assert (float(both.cosine), float(both.jaccard), float(both.agreement)) == pytest.approx((0.5, 1 / 3, 0.5))
    assert float(both.z) == float(both.above_chance) == 0.0
    equal = Overlap(*(np.array(float(n)) for n in (4, 2, 2, 2, 1, 1 / 3)))
    assert float(equal.above_chance) == float(equal.jaccard) == float(equal.cosine) == pytest.approx(1)
    nothing = Overlap(*(np.array(float(n)) for n in (4, 0, 0, 0, 0, 0)))
    assert float(nothing.jaccard) == 1
    assert math.isnan(nothing.above_chance)
    assert math.isnan(nothing.z)


def test_the_variance_is_that_of_all_draws():
    """Every subset of 3 of 7 against a fixed one of 4."""
    common = [len({0, 1, 2, 3} & set(drawn)) for drawn in itertools.combinations(range(7), 3)]
    assert float(hypergeometric_variance(7, 4, 3)) == pytest.approx(np.var(common))
    assert np.mean(common) == pytest.approx(4 * 3 / 7)


def structured(kind: str, generator: torch.Generator) -> torch.Tensor:
    """Half of a 12 x 16 matrix at random: single weights, rows, columns, or two of each four."""
    if kind == "2:4":
        return torch.rand(48, 4, generator=generator).argsort(1).ge(2).reshape(12, 16)
    shape = {"output": (12, 1), "input": (1, 16)}.get(kind, (12, 16))
    flat = torch.rand(math.prod(shape), generator=generator).argsort() >= math.prod(shape) // 2
    return flat.reshape(shape).expand(12, 16)


@pytest.mark.parametrize(
    "kinds", [("unstructured", "output"), ("output", "output"), ("input", "input"), ("2:4", "2:4")]
)
def test_chance_for_every_granularity(kinds):
    generator = torch.Generator().manual_seed(0)
    fixed = ~structured(kinds[1], generator)
    common = [int((~structured(kinds[0], generator) & fixed).sum()) for _ in range(4000)]
    variance = float(variance_of((12, 16), kinds, np.array(96.0), np.array(96.0)))
    assert np.mean(common) == pytest.approx(96 * 96 / 192, rel=0.02)
    assert np.var(common) == pytest.approx(variance, rel=0.1)


def test_no_law_between_two_structures():
    assert math.isnan(variance_of((12, 16), ("output", "2:4"), np.array(96.0), np.array(96.0)))


def test_independent_masks_are_at_chance_and_related_ones_are_not(backbone):
    several = [(f"{n}", make(backbone, f"r{n}", correlation=0.0)) for n in range(12)]
    scores = overlaps(mask_set(several)).over(np.arange(6)).z[np.triu_indices(12, 1)]
    assert abs(scores.mean()) < 0.5
    assert 0.7 < scores.std() < 1.3
    alike = [(f"{n}", make(backbone, f"r{n}", correlation=0.9)) for n in range(12)]
    masks = mask_set(alike)
    assert overlaps(masks).over(np.arange(6)).z[0, 1] > 10
    # ... and once it is known that both depend on the magnitudes, nothing is left of it
    magnitudes = Magnitudes({w.name: backbone.state_dict()[w.name] for w in masks.weights})
    counted = np.stack([magnitudes.count({n: ~m.reshape(-1).numpy() for n, m in p.masks.items()}) for _, p in alike], 1)
    given = overlaps(masks, (counted, magnitudes.sizes)).over(np.arange(6), given_magnitude=True)
    scores = given.z[np.triu_indices(12, 1)]
    assert abs(scores.mean()) < 1.5
    assert given.expected[0, 1] > 2 * overlaps(masks).over(np.arange(6)).expected[0, 1]


def test_structured_masks_have_no_chance_given_magnitude(backbone):
    packs = [(r, with_mask(make(backbone, r), granularity="output")) for r in ("es", "it")]
    masks = mask_set(packs)
    bins = np.ones((6, 2, 1), np.int64), np.ones((6, 1), np.int64)
    assert overlaps(masks, bins).given_magnitude is None


def test_labels(backbone):
    found = mask_set(
        [
            ("es.pack", make(backbone, "es")),
            ("x/it_a.pack", make(backbone, "it")),
            ("it_b.pack", make(backbone, "it", 1)),
        ]
    )
    assert found.labels == ("es", "it, seed 0", "it, seed 1")
    found = mask_set(
        [("es.pack", make(backbone, "es")), ("a.pack", make(backbone, "it")), ("b.pack", make(backbone, "it"))]
    )
    assert found.labels == ("es", "it, a", "it, b")
    seeds = [(f"{n}.pack", with_mask(make(backbone, "it"), seed=n)) for n in (3, 4)]
    for _, pack in seeds:
        del pack.meta.training["seed"]
    assert mask_set(seeds).labels == ("it, seed 3", "it, seed 4")
    with pytest.raises(ConfigError, match="two packs are both called it, a"):
        mask_set([("a.pack", make(backbone, "it")), ("a.pack", make(backbone, "it"))])


def test_what_cannot_be_compared(backbone):
    from tests.packs.conftest import Backbone

    es = make(backbone, "es")
    with pytest.raises(ConfigError, match=r"es.pack is the only pack: name at least two"):
        mask_set([("es.pack", es)])
    with pytest.raises(ConfigError, match="no packs given"):
        mask_set([])
    with pytest.raises(PackError, match=r"it.pack: for another backbone .* than es.pack"):
        mask_set([("es.pack", es), ("it.pack", make(Backbone(24, 3, seed=1), "it"))])
    bare = make(backbone, "it")
    bare.masks.clear()
    with pytest.raises(PackError, match=r"it.pack: it holds no masks \(router\)"):
        mask_set([("es.pack", es), ("it.pack", bare)])
    less = make(backbone, "it")
    del less.masks["layers.1.fc1.weight"]
    with pytest.raises(ConfigError, match=r"it.pack: masks other weights than es.pack .*layers.1.fc1.weight"):
        mask_set([("es.pack", es), ("it.pack", less)])


def test_places():
    assert Weight("a", "decoder", 3, "ffn", (2, 3)).place == "decoder 3"
    assert Weight("a", "", None, "other", (2, 3)).place == "outside"
