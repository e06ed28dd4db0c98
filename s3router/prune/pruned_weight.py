"""A weight that is pruned while it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3router.masks.binarize import Fixed, Selection
from s3router.masks.weight_mask import WeightMask, tensor_version
from s3router.prune.magnitude import keep_largest


class Pool:
    """Weights that are pruned together, by one threshold.

    Args:
        members: their masks.
        sparsity: the final one.
    """

    def __init__(self, members: list[PrunedWeight], sparsity: float):
        self.members, self.sparsity = members, sparsity
        self._key: Any = None
        self._final: list[Selection] = []
        for member in members:
            member.pool = self

    def final(self, member: PrunedWeight) -> Selection:
        """What is left of a member at the final sparsity; made anew where a weight or mask of the pool has changed."""
        tensors = [tensor for each in self.members for tensor in (each.weight, each.mask)]
        key = tuple(map(tensor_version, tensors))
        if key != self._key or None in key:
            with torch.inference_mode(False), torch.no_grad():
                masks = None if member.dense else [each.mask for each in self.members]
                found = keep_largest([each.weight for each in self.members], self.sparsity, masks)
            self._key, self._final = key, [Fixed(mask) for mask in found]
        return self._final[self.members.index(member)]


class PrunedWeight(WeightMask):
    """Parametrization of a weight (rows, columns) that trains, and that is pruned meanwhile.

    In evaluation mode it is the weight at the final sparsity, whatever has been removed so far: what a checkpoint of
    this very moment is worth. So validation compares models of one size, and every checkpoint is one.

    In training it is

    - while ``dense``: the weight itself; what was set to zero may come back (PARP, and the first part of S3-Router-P);
    - otherwise the weight without what ``mask`` has removed, to which no gradient goes (OMP, IMP); with scores, what
      these keep, as of `WeightMask`.

    Attributes:
        dense: see above.
        pool: the weights that share its threshold.
        owner, parameter: the module and the name in it of the weight.
    """

    dense = False
    pool: Pool | None = None

    def place(self, owner: nn.Module, parameter: str) -> None:
        """Say which weight it is of. (In a tuple, so that the owner does not become a part of its own part.)"""
        self._place = (owner, parameter)

    @property
    def weight(self) -> Tensor:
        """The weight that trains (rows, columns)."""
        owner, parameter = self._place
        return owner.parametrizations[parameter].original

    def forward(self, weight: Tensor) -> Tensor:
        """(rows, columns) -> (rows, columns)"""
        return weight if self.training and self.dense else super().forward(weight)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.training and self.dense:
            return F.linear(input, weight, bias)
        return super().linear(input, weight, bias)

    def _select(self, deciding: Tensor | None) -> Selection:
        if deciding is None and self.pool is not None and not self.training:
            return self.pool.final(self)
        return super()._select(deciding)

    def extra_repr(self) -> str:
        return f"sparsity={self.sparsity}, {'by magnitude' if self.scores is None else self.estimator}"
