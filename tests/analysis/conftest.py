"""Packs of a small backbone whose masks are alike to a known degree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from s3router.masks import MaskConfig, attach, detach, masks_of
from s3router.packs import MaskPack, PackMeta, write_pack
from s3router.packs.fingerprint import weights_hash
from tests.asr.conftest import make_upstream, small_upstream, tokens_file, zygote  # noqa: F401
from tests.packs.conftest import Backbone, random_masks

ROOT = Path(__file__).parents[2]


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


@pytest.fixture(scope="module")
def in_place(small_upstream):  # noqa: F811
    """A small HuBERT is ``tiny``, and the fixture's relative paths hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("S3ROUTER_TINY", str(small_upstream))
        yield


@pytest.fixture(scope="module")
def packs(in_place, tmp_path_factory) -> list[Path]:
    """Six packs of it: Spanish twice, Italian, French, Russian and Mboshi; masks over feed-forward and attention."""
    return packs_of_tiny(tmp_path_factory.mktemp("packs"), ["es", "es", "it", "fr", "ru", "mboshi"])


def packs_of_tiny(folder: Path, routes: list[str]) -> list[Path]:
    """Packs with random masks over feed-forward and attention of what is ``tiny``."""
    from s3router.upstreams.hub import build

    upstream = build(upstream="tiny")
    for number, route in enumerate(routes):
        config = MaskConfig(sparsity=0.2, targets=("ffn", "attention"), score_init="uniform", seed=number)
        attach(upstream.backbone, config)
        masks = masks_of(upstream.backbone)
        detach(upstream.backbone)
        meta = PackMeta(
            "tiny",
            upstream.backbone_fingerprint,
            mask={**config.to_dict(), "score_init": "ori"},  # as if they had moved there
            preprocessing={"features": "weighted"},
            training={"method": "router", "seed": number},
        )
        weights = {"weights": torch.arange(3) * 0.1 * number}
        write_pack(folder / f"{route}{number}.pack", MaskPack(route, masks, {}, weights, {}, None, meta))
    return sorted(folder.iterdir())
