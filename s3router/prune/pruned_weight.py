"""A weight that is pruned while it trains."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3router.masks.binarize import Fixed, Selection, affordable, exact_share, removed_count, select
from s3router.masks.groups import Group, group_magnitudes
from s3router.masks.scores import unit_magnitudes
from s3router.masks.weight_mask import WeightMask, tensor_version
from s3router.prune.magnitude import keep_largest


class Pool:
    """Weights that are pruned together, by one threshold.

    Args:
        members: their masks.
        sparsity: the final one.

    Attributes:
        share: of the way to it, at which training is where scores decide.
    """

    def __init__(self, members: list[PrunedWeight], sparsity: float):
        self.members, self.sparsity, self.share = members, sparsity, Fraction(1)
        self._key: Any = None
        self._final: list[Selection] = []
        self._rising: list[Selection] = []
        self._rising_key: Any = None
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

    def rising(self, member: PrunedWeight) -> Selection:
        """What a member's scores keep at ``share`` of the way; made anew where they have changed."""
        scores = [each.scores for each in self.members]
        key = (self.share, *map(tensor_version, scores))
        if key != self._rising_key or None in key:
            sparsity = exact_share(self.sparsity) * self.share
            with torch.inference_mode(False), torch.no_grad():
                if member.group is not None and member.group.by_cost:
                    count = affordable(scores, [each.cost for each in self.members], sparsity)
                else:
                    count = removed_count(sparsity, sum(score.numel() for score in scores))
                self._rising_key, self._rising = key, select(scores, count)
        return self._rising[self.members.index(member)]


class PrunedWeight(WeightMask):
    """Parametrization of a weight (rows, columns) that trains, and that is pruned meanwhile.

    In evaluation mode it is the weight at the final sparsity, whatever has been removed so far: what a checkpoint of
    this very moment is worth. So validation compares models of one size, and every checkpoint is one.

    In training it is

    - while ``dense``: the weight itself; what was set to zero may come back (PARP, and the first part of S3-Router-P);
    - otherwise the weight without what ``mask`` has removed, to which no gradient goes (OMP, IMP); with scores, what
      these keep, as of `WeightMask`, at the sparsity that the pool has come to.

    Attributes:
        dense: see above.
        importance: buffer of the scores' shape (1, units), where it is wanted: the sum over batches of the first-order
            estimate of how much the loss changes if a unit goes, |Σ gradient · weight| (arXiv 1906.10771, unsquared).
        pool: the weights that share its threshold.
    """

    dense = False
    pool: Pool | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register_buffer("importance", None)

    def place(self, owner: nn.Module, parameter: str, model: nn.Module, group: Group | None = None) -> None:
        """Say which weight it is of, and the units that its columns are where scores are of these."""
        # in a tuple, so that the owner does not become a part of its own part
        self._place = (owner, parameter, model, group)

    @property
    def weight(self) -> Tensor:
        """The weight that trains (rows, columns)."""
        owner, parameter, *_ = self._place
        return owner.parametrizations[parameter].original

    @property
    def units(self) -> Group | None:
        """The units that its columns are, where scores are of these."""
        return self._place[3]

    def magnitudes(self, granularity: str) -> Tensor:
        """Of what each score stands for, in the scores' shape."""
        if self.units is None:
            return unit_magnitudes(self.weight, granularity)
        return group_magnitudes(self._place[2], self.units)

    def forward(self, weight: Tensor) -> Tensor:
        """(rows, columns) -> (rows, columns)"""
        if not (self.training and self.dense):
            return super().forward(weight)
        return weight if self.importance is None else weight * self._observed(weight.dtype)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (self.training and self.dense):
            return super().linear(input, weight, bias)
        return F.linear(input if self.importance is None else input * self._observed(input.dtype), weight, bias)

    def _observed(self, dtype: torch.dtype) -> Tensor:
        """Ones (columns,) whose gradients, the sum of gradient · weight over each unit, add up in ``importance``."""
        ones = torch.ones(self.importance.numel() * self.block, dtype=dtype, device=self.importance.device)
        if torch.is_grad_enabled():
            ones.requires_grad_(True).register_hook(self._add)
        return ones

    def _add(self, grad: Tensor) -> None:
        change = grad.float().view(-1, self.block).sum(1).abs()
        self.importance += change.masked_fill(~change.isfinite().all(), 0)  # a trainer skips such an update, too

    def _select(self, deciding: Tensor | None) -> Selection:
        if deciding is None and self.pool is not None and not self.training:
            return self.pool.final(self)
        if deciding is not None and self.training and self.pool is not None and self.pool.share < 1:
            return self.pool.rising(self)
        return super()._select(deciding)

    def extra_repr(self) -> str:
        return f"sparsity={self.sparsity}, {'by magnitude' if self.scores is None else self.estimator}"
