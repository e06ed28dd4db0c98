"""Masks of others as a start: what `s3router.masks.MaskConfig.start_packs` stand for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig
from s3router.masks.targets import find_targets
from s3router.packs import read_pack
from s3router.packs.fingerprint import weights_hash


def count_removals(module: nn.Module, config: MaskConfig) -> dict[str, Tensor]:
    """How many of the packs remove each weight that `config` masks.

    Args:
        module: the bare backbone, or a whole recogniser; without masks, with the weights that it was loaded with.

    Returns:
        by weight name, in the order of the model, int16 (rows, columns).

    Raises:
        ConfigError: a pack is missing, has no masks, or masks other weights.
        PackError: a pack is damaged, or of another backbone.
    """
    if missing := [path for path in config.start_packs if not Path(path).is_file()]:
        raise ConfigError(
            f"start_packs: {', '.join(missing)}: no such file; correct the path (relative ones start from {Path.cwd()})"
        )
    fingerprint = weights_hash(module)
    counts = {target.name: torch.zeros(target.shape, dtype=torch.int16) for target in find_targets(module, config)}
    for path in config.start_packs:
        masks = read_pack(path, module, fingerprint=fingerprint).masks
        if differing := sorted(counts.keys() ^ masks.keys()):
            what = "has no masks" if not masks else f"masks other weights than this training (such as {differing[0]})"
            raise ConfigError(f"start_packs: {path}: it {what}; name packs that were trained with the same targets")
        for name, mask in masks.items():
            counts[name] += ~mask
    return counts
