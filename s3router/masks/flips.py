"""How many weights change sides while scores are learnt: from kept to removed, and back."""

from __future__ import annotations

import numpy as np
from torch import nn

from s3router.masks.attach import iterate


class Flips:
    """Compares the masks of a module with what they were at an earlier time; a bit of memory for each weight.

    Args:
        module: with masks that scores decide; fixed ones and weights without a mask do not count.
    """

    def __init__(self, module: nn.Module) -> None:
        self._masks = [mask for _, mask in iterate(module) if mask.scores is not None]
        self._weights = 0
        self._before = self._packed()

    def __bool__(self) -> bool:
        """Whether there is anything to count."""
        return bool(self._masks)

    def share(self) -> float:
        """Share of the masks' entries that have changed sides since `restart`, or since this was made."""
        changed = sum(int(np.bitwise_count(a ^ b).sum()) for a, b in zip(self._before, self._packed(), strict=True))
        return changed / self._weights if self._weights else 0.0

    def restart(self) -> None:
        """Count from now on."""
        self._before = self._packed()

    def _packed(self) -> list[np.ndarray]:
        units = [mask.keep_units() for mask in self._masks]
        self._weights = sum(unit.numel() for unit in units)
        return [np.packbits(unit.cpu().numpy()) for unit in units]
