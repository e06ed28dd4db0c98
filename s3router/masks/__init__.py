"""Binary masks over frozen weights, learnt through scores. Needs torch alone, and works on any ``nn.Module``."""

from __future__ import annotations

from s3router.masks.attach import attach, bake, detach, iterate, load_masks, masks_of, refresh
from s3router.masks.config import MaskConfig
from s3router.masks.scores import SCORE_INITS
from s3router.masks.targets import Target, find_targets
from s3router.masks.weight_mask import WeightMask

__all__ = [
    "SCORE_INITS",
    "MaskConfig",
    "Target",
    "WeightMask",
    "attach",
    "bake",
    "detach",
    "find_targets",
    "iterate",
    "load_masks",
    "masks_of",
    "refresh",
]
