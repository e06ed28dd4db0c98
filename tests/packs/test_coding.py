"""The codec "coded": as good as the entropy that it is held against, and the same bytes for ever."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from s3router.cli import pack
from s3router.masks import MaskConfig, attach, masks_of
from s3router.packs import coding
from s3router.packs.bits import BitMasks
from s3router.packs.contents import CODECS
from s3router.packs.description import Malformed, MaskEntry


def entropy(share: float) -> float:
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p)


def code(masks: dict, weights: dict) -> tuple[dict, np.ndarray, float]:
    """(entries, stream, bits of both), after a look at what comes back."""
    codings, stream = coding.encode(masks, weights)
    entries = {name: MaskEntry(tuple(m.shape), int((~m).sum()), codings[name]) for name, m in masks.items()}
    decoded = BitMasks(dict(coding.decode(entries, stream, weights)), {name: e.shape for name, e in entries.items()})
    assert all(torch.equal(decoded[name], mask) for name, mask in masks.items())
    settings = len(json.dumps(codings, separators=(",", ":")))
    return entries, stream, 32 * len(stream) + 8 * settings


@pytest.fixture(scope="module")
def weights() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {f"layers.{i}": 0.02 * torch.randn(512, 256, generator=generator) for i in range(2)}


@pytest.mark.parametrize("sparsity", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_never_worse_than_the_plain_entropy(weights, masks_for, sparsity, correlation):
    module = nn.ParameterDict({name.replace(".", "_"): w for name, w in weights.items()})
    masks = masks_for(module, sparsity, seed=1, correlation=correlation)
    found = code(masks, dict(module.state_dict()))[2]
    plain = sum(mask.numel() for mask in masks.values()) * entropy(sparsity)
    assert found <= 1.01 * plain + 8 * 64 * len(masks)
    if correlation > 0:
        assert found < 0.98 * plain
    if correlation == 1:
        assert found < 0.05 * plain + 8 * 64 * len(masks)


def test_magnitudes_of_one_quantile_condition_as_well_as_they_can(weights):
    """Removal by magnitude with noise: within 2 % of the entropy given the exact rank."""
    w = weights["layers.0"]
    ranks = w.abs().flatten().argsort().argsort() / w.numel()
    share = torch.sigmoid(30 * (0.1 - ranks))
    generator = torch.Generator().manual_seed(2)
    keep = torch.rand(share.shape, generator=generator) >= share
    ideal = sum(entropy(p) for p in share.tolist())
    found = code({"w": keep.view(w.shape)}, {"w": w})[2]
    assert found < 1.02 * ideal + 8 * 64


@pytest.mark.parametrize("granularity", ["output", "input"])
def test_whole_rows_and_columns_take_a_bit_each(granularity):
    torch.manual_seed(0)
    model = nn.ModuleDict({"fc1": nn.Linear(300, 500)})
    attach(model, MaskConfig(sparsity=0.2, targets=("fc1*",), granularity=granularity))
    masks = masks_of(model)
    entries, stream, _ = code(masks, {"fc1.weight": model["fc1"].parametrizations.weight.original})
    assert entries["fc1.weight"].coding["unit"] == {"output": "row", "input": "column"}[granularity]
    assert 32 * len(stream) <= {"output": 500, "input": 300}[granularity]


@pytest.mark.parametrize("value", [True, False])
def test_masks_that_are_all_alike(weights, value):
    masks = {name: torch.full_like(w, value, dtype=torch.bool) for name, w in weights.items()}
    assert code(masks, weights)[2] < 8 * 64 * len(masks)


def test_weights_of_equal_magnitude():
    weight = torch.tensor([0.0, 1.0, -1.0, 2.0]).repeat(64, 16)
    generator = torch.Generator().manual_seed(3)
    code({"w": (weight.abs() != 1) | (torch.rand(weight.shape, generator=generator) > 0.9)}, {"w": weight})


def test_one_weight_and_odd_shapes():
    weights = {f"{rows} {columns}": torch.randn(rows, columns) for rows, columns in ((1, 1), (1, 5), (7, 1), (3, 3))}
    code({name: weight > 0 for name, weight in weights.items()}, weights)


def test_the_same_bytes_for_ever():
    """Whole numbers as weights, a mask by a formula: if this changes, packs in the world cannot be read."""
    place = torch.arange(64 * 48)
    weight = ((place * 2654435761) % 3072).float().view(64, 48) - 1536
    draw = (place * 40503 + 12345) % 65536
    keep = (draw > 40 * (1536 - weight.abs().flatten()) * 0.8).view(64, 48)
    codings, stream = coding.encode({"w": keep}, {"w": weight})
    assert codings["w"] == GOLDEN_SETTINGS
    assert hashlib.sha256(stream.astype("<u4").tobytes()).hexdigest() == GOLDEN_STREAM
    entry = MaskEntry((64, 48), int((~keep).sum()), GOLDEN_SETTINGS)
    bits = dict(coding.decode({"w": entry}, stream, {"w": weight}))
    assert torch.equal(BitMasks(bits, {"w": keep.shape})["w"], keep)


GOLDEN_SETTINGS = {"unit": "weight", "edges": [582], "p": [35416, 10519]}
GOLDEN_STREAM = "34df76d8b32d444481e1120ac1cce93cddf8552fdc5c09d5d0ccf33fef7f87a5"


def test_code_that_is_too_long(weights):
    masks = {name: w.abs() > 0.01 for name, w in weights.items()}
    entries, stream, _ = code(masks, weights)
    with pytest.raises(Malformed, match="more code than masks"):
        dict(coding.decode(entries, np.concatenate([stream, stream]), weights))


def test_random_code_is_refused_or_gives_some_mask(weights):
    """Never anything else: the digest of the masks decides then (test_pack)."""
    entries, stream, _ = code({name: w.abs() > 0.01 for name, w in weights.items()}, weights)
    generator = np.random.default_rng(0)
    for _ in range(10):
        noise = generator.integers(0, 1 << 32, len(stream), dtype=np.uint32)
        with contextlib.suppress(Malformed):
            dict(coding.decode(entries, noise, weights))


def test_codecs_are_what_the_command_offers():
    option = next(action for action in pack.parser()._actions if action.dest == "codec")
    assert tuple(option.choices) == CODECS
