"""Similarities of masks and their chance levels."""

from __future__ import annotations

import math

import pytest
import torch

from s3router.errors import ConfigError
from s3router.masks.compare import cosine, overlap, sparsity

FIRST = {"w": torch.tensor([[False, False, True, True]])}
SECOND = {"w": torch.tensor([[False, True, False, True]])}


def test_by_hand():
    assert sparsity(FIRST) == 0.5
    found = overlap(FIRST, SECOND)  # 1 in common of 3 removed; by chance 1 in common of 3
    assert (found.value, found.chance, found.above_chance) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        pytest.approx(0),
    )
    found = cosine(FIRST, SECOND)
    assert (found.value, found.chance) == (pytest.approx(0.5), pytest.approx(0.5))


def test_equal_masks():
    assert overlap(FIRST, FIRST).value == 1
    assert cosine(FIRST, FIRST).above_chance == pytest.approx(1)


def test_independent_masks_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": ((300, 200), 0.1), "b": ((100, 100), 0.5)}
    first, second = ({n: torch.rand(s, generator=generator) >= p for n, (s, p) in shapes.items()} for _ in range(2))
    for measure in (overlap, cosine):
        found = measure(first, second)
        assert found.value == pytest.approx(found.chance, abs=0.01)
        assert abs(found.above_chance) < 0.02


def test_nothing_removed():
    dense = {"w": torch.ones(2, 2, dtype=torch.bool)}
    assert overlap(dense, dense).value == 1
    assert math.isnan(overlap(dense, dense).above_chance)


def test_errors():
    with pytest.raises(ConfigError, match="different weights"):
        overlap(FIRST, {"v": FIRST["w"]})
    with pytest.raises(ConfigError, match="differ in shape"):
        cosine(FIRST, {"w": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(ConfigError, match="none given"):
        overlap({}, {})
    with pytest.raises(ConfigError, match="keeps nothing"):
        cosine({"w": torch.zeros(1, 2, dtype=torch.bool)}, {"w": torch.zeros(1, 2, dtype=torch.bool)})
    with pytest.raises(ConfigError, match="no masks"):
        sparsity({})
