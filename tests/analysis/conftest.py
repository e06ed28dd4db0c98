"""Packs of a small backbone whose masks are alike to a known degree."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from s3router.packs import MaskPack, PackMeta
from s3router.packs.fingerprint import weights_hash
from tests.packs.conftest import Backbone, random_masks


def make(backbone: nn.Module, route: str, seed: int = 0, sparsity: float = 0.1, correlation: float = 0.0) -> MaskPack:
    """A pack with masks at random, or by magnitude as far as `correlation` says."""
    meta = PackMeta(
        "small",
        weights_hash(backbone),
        mask={"sparsity": sparsity, "targets": ["*fc*"]},
        preprocessing={"features": "weighted"},
        training={"method": "router", "seed": seed},
    )
    masks = random_masks(backbone, sparsity, hash_of(route) + seed, correlation)
    return MaskPack(route, masks, {}, {}, {}, None, meta)


def hash_of(route: str) -> int:
    return sum(map(ord, route)) * 1000


def with_mask(pack: MaskPack, **settings: object) -> MaskPack:
    """The pack with other settings of its masks."""
    return dataclasses.replace(pack, meta=dataclasses.replace(pack.meta, mask={**pack.meta.mask, **settings}))


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return Backbone(width=24, layers=3)
