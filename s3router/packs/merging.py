"""Packs written into the weights of their backbone."""

from __future__ import annotations

import torch
from torch import nn

from s3router.errors import ConfigError
from s3router.packs.adapters import adapted, by_target, resident
from s3router.packs.contents import MaskPack
from s3router.packs.fingerprint import named_weights


@torch.no_grad()
def merge(backbone: nn.Module, pack: MaskPack) -> nn.Module:
    """Write further weights, adapter and zeros of masks into a plain backbone, in place; returns it.

    Args:
        backbone: the one that the pack is for (`s3router.packs.read_pack` checks that).

    Raises:
        ConfigError: bottlenecks (Houlsby), which no weights can say; nothing is written.
    """
    settings = pack.meta.adapter
    if pack.adapter and settings["method"] == "houlsby":
        raise ConfigError(
            f"route {pack.route!r}: method houlsby puts layers of its own between those of the backbone, for which "
            "plain models have no place; serve the pack instead (s3router transcribe or classify --routes)"
        )
    weights = dict(named_weights(backbone))
    for name, values in pack.delta.items():
        weights[name].copy_(values)
    for name, parts in by_target(pack.adapter, settings).items():
        weight = weights[name]
        parts = resident(settings, name, weight.shape, parts)
        here = {part: tensor.to(weight.device) for part, tensor in parts.items()}
        weight.copy_(adapted(settings, weight, here))
    for name, keep in pack.masks.items():
        weights[name].masked_fill_(~keep.to(weights[name].device), 0)
    return backbone
