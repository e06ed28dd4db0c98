"""Similarity of masks, next to what masks of the same sparsities would reach by chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from s3router.errors import ConfigError

Masks = Mapping[str, Tensor]  # weight name -> bool (rows, columns), True = kept; as `masks_of` gives them


@dataclass(frozen=True)
class Similarity:
    """A similarity of two sets of masks.

    Attributes:
        value: what was found; 1 for equal masks.
        chance: what is expected of independent masks that remove as much of every tensor.
    """

    value: float
    chance: float

    @property
    def above_chance(self) -> float:
        """0 at chance level, 1 for equal masks (NaN where chance itself is 1, as at sparsity 0)."""
        return (self.value - self.chance) / (1 - self.chance) if self.chance < 1 else math.nan


def sparsity(masks: Masks) -> float:
    """The share removed, over all weights together."""
    total = sum(mask.numel() for mask in masks.values())
    if not total:
        raise ConfigError("no masks to take the sparsity of")
    return sum(_removed(mask) for mask in masks.values()) / total


def overlap(first: Masks, second: Masks) -> Similarity:
    """Intersection over union of the removed weights; 1 (and chance 1) where neither removes any.

    Chance: with a and b removed of n weights, ab/n are expected in the intersection, tensor by tensor.

    Raises:
        ConfigError: the names or shapes differ.
    """
    common = expected = removed = 0.0
    for a, b in _pairs(first, second):
        common += int((~a & ~b).sum())
        expected += _removed(a) * _removed(b) / a.numel()
        removed += _removed(a) + _removed(b)
    if not removed:
        return Similarity(1.0, 1.0)
    return Similarity(common / (removed - common), expected / (removed - expected))


def cosine(first: Masks, second: Masks) -> Similarity:
    """Cosine similarity of the masks as vectors of ones (kept) and zeros (removed), the measure of arXiv 2211.01522.

    It is high by chance alone: about 1 - sparsity.

    Raises:
        ConfigError: the names or shapes differ.
    """
    common = expected = kept_first = kept_second = 0.0
    for a, b in _pairs(first, second):
        kept_a, kept_b = int(a.sum()), int(b.sum())
        common += int((a & b).sum())
        expected += kept_a * kept_b / a.numel()
        kept_first += kept_a
        kept_second += kept_b
    length = math.sqrt(kept_first * kept_second)
    if not length:
        raise ConfigError("a mask that keeps nothing has no direction: no cosine similarity")
    return Similarity(common / length, expected / length)


def _removed(mask: Tensor) -> int:
    return mask.numel() - int(mask.sum())


def _pairs(first: Masks, second: Masks) -> Iterator[tuple[Tensor, Tensor]]:
    if first.keys() != second.keys() or not first:
        differing = sorted(first.keys() ^ second.keys())
        raise ConfigError(f"masks of different weights cannot be compared: {', '.join(differing[:5]) or 'none given'}")
    for name, a in first.items():
        b = second[name]
        if a.shape != b.shape:
            raise ConfigError(f"masks of '{name}' differ in shape: {list(a.shape)} and {list(b.shape)}")
        yield a.bool(), b.to(a.device).bool()
