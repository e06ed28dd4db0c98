"""Pruning by magnitude: weights -> masks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from s3router.errors import TrainingError
from s3router.masks.binarize import removed_count, select


def keep_largest(
    weights: Sequence[Tensor], sparsity: float | Fraction, masks: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The masks that remove the weights of smallest magnitude, of all tensors together.

    Removed are exactly ⌊sparsity · total⌋. Equal magnitudes go in order of position.

    Args:
        weights: of any shapes.
        sparsity: share to remove, 0 <= s < 1; a decimal as typed, or an exact fraction.
        masks: bool, the weights' shapes, True = kept: what they have removed already stays removed, and counts. If that
            is more than is asked for, nothing is added.

    Returns:
        New bool tensors in the weights' shapes, True = kept.

    Raises:
        TrainingError: a weight is no finite number.
    """
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise TrainingError("weights are NaN or infinite: training has diverged; lower the rate of the weights")
    if masks is None:
        masks = [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    total, kept = sum(w.numel() for w in weights), sum(int(m.sum()) for m in masks)
    still = max(0, removed_count(sparsity, total) - (total - kept))
    candidates = [weight.detach()[mask] for weight, mask in zip(weights, masks, strict=True)]
    found = []
    for mask, values, selection in zip(masks, candidates, select(candidates, still), strict=True):
        keep = mask.clone()
        keep[mask] = selection.keep(values)
        found.append(keep)
    return found
