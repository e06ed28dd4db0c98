"""BitDelta: weights are finetuned; of their change only the signs and a scale per matrix are kept.

arXiv 2402.10193, section 3.1: the scale that is nearest in the L2 norm is the mean magnitude of the change. The model
computes with that in evaluation mode, so that validation picks the checkpoint that is best after it. The paper's
distillation of the scales is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from s3router.masks.targets import Target


class Change(nn.Module):
    """Parametrization of a weight (rows, columns): weight + change in training, weight + scale · sign in evaluation."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.change = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """(rows, columns) -> (rows, columns)"""
        if self.training:
            return weight + self.change
        plus, scale = self.quantised()
        return weight + torch.where(plus, scale, -scale)

    def quantised(self) -> tuple[Tensor, Tensor]:
        """The signs (rows, columns), bool, True = plus, and the scale (1,)."""
        return self.change.detach() >= 0, self.change.detach().abs().mean().reshape(1)


def add(module: nn.Module, targets: list[Target], conf: dict[str, Any], seed: int) -> dict:
    """Let the targets' weights change, by a parameter of its own beside each; returns nothing to record."""
    for target in targets:
        layer = module.get_submodule(target.module)
        change = Change(layer._parameters[target.parameter].detach())
        parametrize.register_parametrization(layer, target.parameter, change, unsafe=True)
    return {}
