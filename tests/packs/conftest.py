"""A small backbone with masks of three kinds, and a pack of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from s3router.packs import MaskPack, PackMeta
from s3router.packs.fingerprint import weights_hash

TOKENS = ("<blank>", "<unk>", "<space>", "e", "ñ", "字", "<sos/eos>")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width + 1)  # an odd number of weights: the last byte is not full
        self.fc2 = nn.Linear(2 * width + 1, width)


class Backbone(nn.Module):
    def __init__(self, width: int = 13, layers: int = 2, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(Block(width) for _ in range(layers))


def random_masks(backbone: nn.Module, sparsity: float = 0.1, seed: int = 0, correlation: float = 0.0) -> dict:
    """Masks that remove `sparsity` of every matrix: by magnitude (correlation 1), at random (0), or in between."""
    generator = torch.Generator().manual_seed(seed)
    masks: dict[str, Tensor] = {}
    for name, weight in backbone.state_dict().items():
        if weight.dim() != 2:
            continue
        ranks = weight.abs().flatten().argsort().argsort() / weight.numel()
        score = correlation * ranks + (1 - correlation) * torch.rand(weight.numel(), generator=generator)
        keep = torch.ones(weight.numel(), dtype=torch.bool)
        keep[score.argsort()[: int(sparsity * weight.numel())]] = False
        masks[name] = keep.reshape(weight.shape)
    return masks


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return Backbone()


def make_pack(backbone: nn.Module) -> MaskPack:
    """Everything that a pack can hold, in every dtype."""
    generator = torch.Generator().manual_seed(1)
    meta = PackMeta(
        backbone="hf_hubert_custom",
        fingerprint=weights_hash(backbone),
        checkpoint="small",
        mask={"sparsity": 0.1, "targets": ["ffn"]},
        preprocessing={"sample_rate": 16000, "features": "weighted", "token_type": "char"},
        corpus="five utterances",
        metrics={"dev": {"wer": 0.25, "cer": 0.125}, "test": {}},
        training={"score_lr": 0.002, "seed": 0},
        versions={"s3router": "0", "torch": torch.__version__},
        licence="CC0-1.0",
        date="2026-01-31",
    )
    return MaskPack(
        route="es",
        masks=random_masks(backbone),
        delta={"layers.0.fc1.bias": torch.randn(27, generator=generator).half()},
        featurizer={"weights": torch.randn(3, generator=generator).bfloat16()},
        head={"weight": torch.randn(7, 13, generator=generator), "bias": torch.randn(7, generator=generator)},
        tokens=TOKENS,
        meta=meta,
        bpe_model=b"\x00not a real one",
    )


@pytest.fixture(scope="session")
def pack(backbone) -> MaskPack:
    return make_pack(backbone)


@pytest.fixture(scope="session")
def backbone_of():
    """seed -> the small backbone with other weights."""
    return lambda seed: Backbone(seed=seed)


@pytest.fixture(scope="session")
def assert_same():
    return _assert_same


@pytest.fixture(scope="session")
def masks_for():
    """`random_masks`: backbone, sparsity, seed, correlation with magnitude -> masks."""
    return random_masks


def _assert_same(found: MaskPack, expected: MaskPack) -> None:
    for part in ("masks", "delta", "featurizer", "head"):
        a, b = getattr(found, part), getattr(expected, part)
        assert list(a) == list(b) if part == "masks" else set(a) == set(b)
        for name, tensor in b.items():
            assert a[name].dtype == tensor.dtype
            assert torch.equal(a[name], tensor)
    names = [field.name for field in dataclasses.fields(MaskPack) if field.name not in ("masks", "delta")]
    for name in set(names) - {"featurizer", "head"}:
        assert getattr(found, name) == getattr(expected, name)
