"""Where masks cut, against counting by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from s3router.analysis.cuts import (
    InitialMasks,
    Magnitudes,
    explained,
    from_initial,
    heads,
    poisson_binomial,
    shared,
    units,
)
from s3router.analysis.mask_set import mask_set, unpack
from s3router.analysis.similarity import overlaps
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import MaskPack, PackMeta
from s3router.packs.fingerprint import weights_hash
from tests.analysis.conftest import make, with_mask


def test_the_initial_mask_is_the_one_that_training_begins_with(backbone):
    import copy

    trained = copy.deepcopy(backbone)
    attach(trained, MaskConfig(sparsity=0.1, targets=("*fc*",), seed=7))
    initial = InitialMasks(backbone)
    before = weights_hash(backbone)
    pack = make(backbone, "es", 7)
    found = initial.of(pack.meta, tuple(pack.masks))
    for name, mask in masks_of(trained).items():
        assert (unpack(found[name], mask.numel()) == ~mask.numpy().reshape(-1)).all(), name
    assert weights_hash(backbone) == before
    assert type(backbone.layers[0].fc1) is nn.Linear


def test_how_far_masks_have_left_it(backbone):
    moved, there = make(backbone, "es"), make(backbone, "it", correlation=1.0)
    masks = mask_set(
        [("a", moved), ("b", there), ("c", with_mask(make(backbone, "ru"), role_sparsity={"attention": 0.2}))]
    )
    found = from_initial(masks, InitialMasks(backbone))
    changed = found.changed(np.arange(6))
    assert changed[:2] == pytest.approx([0.9, 0], abs=0.02)  # at random: a tenth is among the smallest tenth
    assert np.isnan(changed[2])
    overlap = found.over(np.arange(6))
    assert overlap.above_chance[:2] == pytest.approx([0, 1], abs=0.02)
    assert abs(overlap.z[0]) < 4
    assert overlap.cosine[1] == pytest.approx(1)


def test_recipes_have_names_of_their_own_for_targets_and_pruning_begins_elsewhere(backbone):
    """Of a whole recogniser ``ffn`` means both stacks: the names of the masks count."""
    pack = with_mask(make(backbone, "es", correlation=1.0), targets=["ffn"], layers=[0, 1, 2])
    initial = InitialMasks(backbone)
    found = initial.of(pack.meta, tuple(pack.masks))
    assert all((unpack(found[n], m.numel()) == ~m.numpy().reshape(-1)).all() for n, m in pack.masks.items())
    pruned = dataclasses.replace(pack.meta, training={"method": "omp"})
    assert initial.of(pruned, tuple(pack.masks)) is None
    assert initial.of(dataclasses.replace(pack.meta, mask={}), tuple(pack.masks)) is None


def test_magnitudes(backbone):
    weights = {name: tensor for name, tensor in backbone.state_dict().items() if tensor.dim() == 2}
    magnitudes = Magnitudes(weights, bins=8)
    assert magnitudes.sizes.sum(1).tolist() == [tensor.numel() for tensor in weights.values()]
    assert np.ptp(magnitudes.sizes) <= 2
    smallest = {
        n: (w.abs() <= w.abs().flatten().kthvalue(w.numel() // 8)[0]).reshape(-1).numpy() for n, w in weights.items()
    }
    counted = magnitudes.count(smallest)
    assert (counted[:, 0] == [removed.sum() for removed in smallest.values()]).all()
    assert counted[:, 1:].sum() == 0


def test_many_zeros_are_one_bin(backbone):
    """As in a pruned backbone: they are the smallest weights, and the bins that they leave empty do no harm."""
    weights = {n: t.clone() for n, t in backbone.state_dict().items() if t.dim() == 2}
    for tensor in weights.values():
        tensor[tensor.abs() < tensor.abs().median()] = 0
    magnitudes = Magnitudes(weights, bins=8)
    zeros = [int((tensor == 0).sum()) for tensor in weights.values()]
    assert magnitudes.sizes[:, 0].tolist() == zeros
    assert magnitudes.zeros == sum(zeros)
    assert (magnitudes.sizes[:, 1:3] == 0).all()
    assert magnitudes.sizes.sum(1).tolist() == [tensor.numel() for tensor in weights.values()]
    packs = [(route, make(backbone, route)) for route in ("es", "it")]
    counted = np.stack([magnitudes.count({n: ~m.reshape(-1).numpy() for n, m in p.masks.items()}) for _, p in packs], 1)
    with np.errstate(all="raise"):
        found = overlaps(mask_set(packs), (counted, magnitudes.sizes)).over(np.arange(6), given_magnitude=True)
    # within the zeros and above, masks at random are independent: chance is as without the bins
    assert found.expected[0, 1] == pytest.approx(overlaps(mask_set(packs)).over(np.arange(6)).expected[0, 1], rel=0.05)
    assert abs(found.z[0, 1]) < 4


def test_explained_is_mutual_information():
    sizes = np.array([4, 4])
    assert float(explained(np.array([4, 0]), sizes)) == pytest.approx(1)
    assert float(explained(np.array([2, 2]), sizes)) == pytest.approx(0)
    entropy = -sum(p * math.log2(p) for p in (0.5, 0.5))
    within = -sum(p * math.log2(p) for p in (0.25, 0.75))
    assert float(explained(np.array([3, 1]), sizes)) == pytest.approx(1 - within / entropy)
    assert math.isnan(explained(np.array([0, 0]), sizes))


def test_poisson_binomial_is_the_sum_over_all_outcomes():
    p = np.array([0.1, 0.5, 0.7])
    slow = np.zeros(4)
    for events in itertools.product((0, 1), repeat=3):
        slow[sum(events)] += math.prod(q if e else 1 - q for e, q in zip(events, p, strict=True))
    assert poisson_binomial(p) == pytest.approx(slow)


def test_shared_counts_every_weight(backbone):
    packs = [(route, make(backbone, route, correlation=0.5)) for route in ("es", "it", "ru")]
    masks = mask_set(packs)
    times = sum((~torch.cat([m.reshape(-1) for m in p.masks.values()])).long() for _, p in packs)
    magnitudes = Magnitudes({w.name: backbone.state_dict()[w.name] for w in masks.weights})
    counted = np.stack([magnitudes.count({n: ~m.reshape(-1).numpy() for n, m in p.masks.items()}) for _, p in packs], 1)
    found = shared(masks, (counted, magnitudes.sizes))
    assert found.weights.tolist() == torch.bincount(times, minlength=4).tolist()
    assert found.used == int((times < 3).sum())
    assert found.kept_by_all == int((times == 0).sum())
    for expected in (found.expected, found.given_magnitude):
        assert expected.sum() == pytest.approx(len(times))
        assert (expected * np.arange(4)).sum() == pytest.approx(float(times.sum()))
    assert found.given_magnitude[3] > found.expected[3]


def test_units(backbone):
    whole = make(backbone, "es")
    mask = torch.ones(49, 24, dtype=torch.bool)
    mask[:7] = False
    whole.masks["layers.0.fc1.weight"] = mask
    mask = torch.ones(24, 49, dtype=torch.bool)
    mask[:, :7] = False
    whole.masks["layers.0.fc2.weight"] = mask
    rows = [row for row in units(mask_set([("a", whole), ("b", make(backbone, "it"))])) if row["pack"] == "es"]
    for row in rows[:2]:
        assert (row["units"], row["weights_per_unit"], row["units_removed"]) == (49, 24, 7)
        assert (row["least_removed"], row["most_removed"]) == (0, 1)
        assert row["dispersion"] > 20
    assert all(0.4 < row["dispersion"] < 2 for row in rows[2:])


def test_units_of_narrow_layers():
    """Fewer hidden units than channels, as shrinking leaves them: the names tell the axis, not the shapes."""
    first, last = torch.ones(6, 24, dtype=torch.bool), torch.ones(24, 6, dtype=torch.bool)
    first[:2], last[:, :2] = False, False
    meta = PackMeta("small", "0")
    masks = {"layers.0.fc1.weight": first, "layers.0.fc2.weight": last}
    packs = [(route, MaskPack(route, masks, {}, {}, {}, None, meta)) for route in ("a", "b")]
    rows = list(units(mask_set(packs)))
    assert len(rows) == 4
    for row in rows:
        assert (row["units"], row["weights_per_unit"], row["units_removed"]) == (6, 24, 2)


def test_the_dispersion_of_masks_at_random_is_1():
    """Of few units, too: their removed weights have a fixed sum, which keeps them closer together."""
    generator, meta, found = torch.Generator().manual_seed(0), PackMeta("small", "0"), []
    for _ in range(500):
        packs = []
        for route in ("a", "b"):
            flat = torch.rand(4 * 24, generator=generator).argsort() >= 24
            packs.append((route, MaskPack(route, {"fc1.weight": flat.reshape(4, 24)}, {}, {}, {}, None, meta)))
        found += [row["dispersion"] for row in units(mask_set(packs))]
    assert len(found) == 1000
    assert np.mean(found) == pytest.approx(1, abs=0.08)


class Attention(nn.Module):
    """Named as transformers names it."""

    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.q_proj, self.out_proj = nn.Linear(16, 16), nn.Linear(16, 16)


def test_heads():
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Module()])
    model.layers[0].attention = Attention()
    q, out = (torch.ones(16, 16, dtype=torch.bool) for _ in range(2))
    q[4:8], out[:, 4:8] = False, False  # the second head alone
    names = [f"layers.0.attention.{name}_proj.weight" for name in ("q", "out")]
    meta = PackMeta("small", weights_hash(model))
    packs = [(r, MaskPack(r, dict(zip(names, (q, out), strict=True)), {}, {}, {}, None, meta)) for r in ("a", "b")]
    found = [row for row in heads(mask_set(packs), model) if row["pack"] == "a"]
    assert [row["share"] for row in found] == [0, 1, 0, 0] * 2
    assert [row["weights"] for row in found] == [64] * 8
    assert found[1]["z"] > 5 > -3 > found[0]["z"]
