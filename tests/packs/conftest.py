"""A small backbone with masks of three kinds, and a pack of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from s3router.packs import MaskPack, PackMeta
from s3router.packs.bits import pack_bits
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


ADAPTERS = {
    "lora": {"method": "lora", "scale": 2.0},
    "dora": {"method": "dora", "scale": 0.5},
    "sparse_delta": {"method": "sparse_delta", "seed": 3},
    "bitdelta": {"method": "bitdelta"},
    "row_scale": {"method": "row_scale"},
    "houlsby": {"method": "houlsby"},
}


def make_adapter(backbone: nn.Module, method: str, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Parts at random for every matrix of the backbone, or for the last linear layer of each block."""
    generator = torch.Generator().manual_seed(2)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    found: dict[str, Tensor] = {}
    for name, weight in backbone.state_dict().items():
        if weight.dim() != 2:
            continue
        rows, columns = weight.shape
        factors = {"lora_A": values(2, columns), "lora_B": values(rows, 2)}
        bits = pack_bits(values(rows, columns) > 0)
        parts = {
            "lora": factors,
            "dora": factors | {"magnitude": values(rows).abs()},
            "sparse_delta": {"values": values(rows)},
            "bitdelta": {"signs": torch.from_numpy(bits), "scale": torch.tensor([0.25])},
            "row_scale": {"row_scale": values(rows)},
            "houlsby": {
                **{"down.weight": values(3, rows), "down.bias": values(3)},
                **{"up.weight": values(rows, 3), "up.bias": values(rows)},
            },
        }[method]
        target = name.removesuffix(".weight") if method == "houlsby" else name
        found |= {f"{target}.{part}": tensor for part, tensor in parts.items()}
    return found


def with_adapter(pack: MaskPack, backbone: nn.Module, method: str) -> MaskPack:
    """The pack with an adapter beside its masks."""
    meta = dataclasses.replace(pack.meta, adapter=ADAPTERS[method])
    return dataclasses.replace(pack, meta=meta, adapter=make_adapter(backbone, method))


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


_TENSORS = ("masks", "delta", "featurizer", "head", "adapter")


def _assert_same(found: MaskPack, expected: MaskPack) -> None:
    for part in _TENSORS:
        a, b = getattr(found, part), getattr(expected, part)
        assert list(a) == list(b) if part == "masks" else set(a) == set(b)
        for name, tensor in b.items():
            assert a[name].dtype == tensor.dtype
            assert torch.equal(a[name], tensor)
    for name in {field.name for field in dataclasses.fields(MaskPack)} - set(_TENSORS):
        assert getattr(found, name) == getattr(expected, name)
