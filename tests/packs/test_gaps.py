"""The codec "gaps": what comes back, how long it is, and code that no encoder makes."""

from __future__ import annotations

import contextlib
import json
import math
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from s3router.packs import coding, gaps
from s3router.packs.bits import BitMasks
from s3router.packs.description import Malformed, MaskEntry


def entropy(share: float) -> float:
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p)


def code(masks: dict, weights: dict) -> tuple[dict, dict, float]:
    """(entries, streams, bits of both), after a look at what comes back."""
    codings, streams = gaps.encode(masks, weights)
    entries = {name: MaskEntry(tuple(m.shape), int((~m).sum()), codings[name]) for name, m in masks.items()}
    decoded = BitMasks(dict(gaps.decode(entries, streams, weights)), {name: e.shape for name, e in entries.items()})
    assert list(decoded) == list(masks)
    assert all(torch.equal(decoded[name], mask) for name, mask in masks.items())
    settings = len(json.dumps(codings, separators=(",", ":")))
    return entries, streams, 8 * (sum(map(len, streams.values())) + settings)


@pytest.fixture(scope="module")
def weights() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {f"layers.{i}": 0.02 * torch.randn(1024, 512, generator=generator) for i in range(2)}


@pytest.mark.parametrize("sparsity", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_within_a_few_percent_of_range_coding(weights, masks_for, sparsity, correlation):
    module = nn.ParameterDict({name.replace(".", "_"): w for name, w in weights.items()})
    masks = masks_for(module, sparsity, seed=1, correlation=correlation)
    found = code(masks, dict(module.state_dict()))[2]
    codings, stream = coding.encode(masks, dict(module.state_dict()))
    other = 32 * len(stream) + 8 * len(json.dumps(codings, separators=(",", ":")))
    plain = sum(mask.numel() for mask in masks.values()) * entropy(sparsity)
    assert found <= 1.04 * min(other, plain) + (8 * 600 if correlation < 1 else 0.02 * plain)


@pytest.mark.parametrize("count", [1, 16, 17, 254, 300])
def test_bins_are_the_edges_that_a_magnitude_reaches(count):
    generator = np.random.default_rng(0)
    keys = generator.integers(0, gaps.KEYS, 5000).astype(np.uint16)
    edges = sorted(generator.choice(np.arange(1, gaps.KEYS), count, replace=False).tolist())
    bins = gaps._bins(keys, edges)
    assert bins.tolist() == np.searchsorted(edges, keys, side="right").tolist()
    assert gaps._sizes(bins, count + 1) == np.bincount(bins, minlength=count + 1).tolist()


def test_gaps_of_any_length():
    """Gaps of 0, around the escape and its multiples, and up to the last weight."""
    lengths = [0, 1, 253, 254, 255, 256, 509, 510, 511, 765, 3000, 0]
    places = np.cumsum(np.array(lengths) + 1) - 1
    removed = torch.zeros(2 * 2800, dtype=torch.bool)
    removed[places[places < 5600]] = True
    removed[-1] = True
    for mask in (~removed.view(2, 2800), removed.view(2, 2800)):
        code({"w": mask}, {"w": torch.randn(2, 2800)})


@pytest.mark.parametrize("value", [True, False])
def test_masks_that_are_all_alike(weights, value):
    masks = {name: torch.full_like(w, value, dtype=torch.bool) for name, w in weights.items()}
    assert code(masks, weights)[2] < 8 * 64 * len(masks)


def test_whole_rows_and_columns_one_weight_and_odd_shapes():
    rows = (torch.arange(500) % 5 > 0)[:, None].expand(500, 300).contiguous()
    assert code({"w": rows}, {"w": torch.randn(500, 300)})[0]["w"].coding["unit"] == "row"
    assert code({"w": rows.T.contiguous()}, {"w": torch.randn(300, 500)})[0]["w"].coding["unit"] == "column"
    shapes = ((1, 1), (1, 5), (7, 1), (3, 3))
    weights = {f"{rows} {columns}": torch.randn(rows, columns) for rows, columns in shapes}
    code({name: weight > 0 for name, weight in weights.items()}, weights)


def test_threads_change_nothing(weights):
    masks = {name: w.abs() > 0.003 for name, w in weights.items()}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gaps.encode(masks, weights)
        torch.set_num_threads(2)
        two = gaps.encode(masks, weights)
        code(masks, weights)
    finally:
        torch.set_num_threads(before)
    assert one[0] == two[0]
    assert all(np.array_equal(one[1][name], two[1][name]) for name in one[1])


def deflated(content: bytes) -> np.ndarray:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return np.frombuffer(coder.compress(content) + coder.flush(), np.uint8)


def test_code_that_no_encoder_makes():
    removed = torch.zeros(40, 51, dtype=torch.bool)
    removed.view(-1)[9::10] = True
    weight = {"w": torch.randn(40, 51)}
    entries, streams, _ = code({"w": ~removed}, weight)
    assert entries["w"].coding["runs"] == [[204, 0]]

    def refused(message: str, content: bytes | None = None, **coding) -> None:
        entry = MaskEntry((40, 51), 204, {**entries["w"].coding, **coding})
        given = {**streams, **({} if content is None else {"gaps": deflated(content)})}
        with pytest.raises(Malformed, match=message):
            dict(gaps.decode({"w": entry}, given, weight))

    refused("gaps: 203 bytes or more, and not 204", b"\x09" * 203)
    refused("gaps: 205 bytes or more, and not 204", b"\x09" * 100_000_000)  # no more than it needs is unpacked
    refused("reach past the last weight", b"\x0a" * 204)
    refused("its gaps are damaged", b"\x09" * 204 + b"\xff", runs=[[204, 1]])
    refused("its runs are damaged", runs=[[204]])
    refused("its runs are damaged", runs=[[2041, 0]])
    refused("its runs are damaged", runs=[[204, 0], [0, 0]])
    refused("its magnitude bins are damaged", edges=[5, 5], runs=[[204, 0], [0, 0], [0, 0]])
    refused("more symbols than weights", edges=[32767], runs=[[104, 0], [100, 0]])
    refused("not of this format", p=[1])
    with pytest.raises(Malformed, match="gaps: no code"):
        dict(gaps.decode(entries, {**streams, "gaps": np.full(9, 255, np.uint8)}, weight))


def test_random_code_is_refused_or_gives_some_mask(weights):
    """Never anything else: the digest of the masks decides then (test_pack)."""
    entries, streams, _ = code({name: w.abs() > 0.01 for name, w in weights.items()}, weights)
    generator = np.random.default_rng(0)
    for _ in range(20):
        noise = {name: stream.copy() for name, stream in streams.items()}
        for stream in noise.values():
            if len(stream) > 10:
                stream[generator.integers(0, len(stream), 3)] ^= np.uint8(1 << generator.integers(0, 8))
        with contextlib.suppress(Malformed):
            dict(gaps.decode(entries, noise, weights))
