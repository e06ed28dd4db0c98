"""Setting a pruning method up on a plain model, in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach
from s3router.masks.groups import find_groups
from s3router.prune.pruned_weight import Pool, PrunedWeight
from s3router.prune.schedule import REVIVING, check_sparsity, complete

RECORD = "_s3router_pruning"
"""Attribute of a model that says how it is pruned."""


@dataclass(frozen=True)
class Pruning:
    """How a model is pruned.

    Attributes:
        method, conf: as `s3router.prune.schedule` has them.
        mask: which weights, and how many in the end.
        pools: the weights that share a threshold; each weight is in one.
    """

    method: str
    conf: Mapping[str, Any]
    mask: MaskConfig
    pools: list[Pool]

    def values(self, pool: Pool) -> list[Tensor]:
        """What the scores of a pool's members rank at the start of the second part of S3-Router-P, in their shapes."""
        magnitudes = [member.magnitudes(self.mask.granularity) for member in pool.members]
        if self.conf["start"] != "importance" or not any(bool(member.importance.any()) for member in pool.members):
            return magnitudes
        # under one budget of multiplications what counts is what a unit brings for each that it takes
        by_cost = self.mask.scope == "flops"
        importance = [m.importance / m.cost if by_cost else m.importance for m in pool.members]
        # of the same size on average, so that init_scale and the learning rate mean the same; one factor for all
        # members, whose order among each other stays
        scale = torch.cat(magnitudes, 1).mean() / torch.cat(importance, 1).mean()
        return [each * scale for each in importance]

    @property
    def members(self) -> list[PrunedWeight]:
        """All pruned weights, in the order of the model."""
        return [member for pool in self.pools for member in pool.members]


def check(method: str, conf: Mapping[str, Any], mask: MaskConfig) -> dict[str, Any]:
    """The complete configuration of a method.

    Raises:
        ConfigError: it cannot be, or does not go with the masks.
    """
    filled = complete(method, conf)
    check_sparsity(method, filled, mask.sparsity)
    if mask.train:
        raise ConfigError(f"method {method}: all weights train anyway; leave train out of mask_conf")
    if method != "router_p" and mask.granularity != "unstructured":
        raise ConfigError(
            f"method {method} removes single weights, and granularity {mask.granularity!r} was asked for; leave it "
            "out, or take method router_p"
        )
    if method == "router_p" and filled["schedule"] is not None and mask.n_m:
        raise ConfigError(
            f"method {method}: granularity {mask.granularity} has its share from the start; leave schedule out"
        )
    if filled.get("start", "pretrained") is None:  # scores that start anywhere have no magnitudes to follow
        filled["start"] = "finetuned" if mask.score_init == "weight" else "pretrained"
    start = filled.get("start", "pretrained")
    if start != "pretrained" and mask.score_init != "weight":
        raise ConfigError(f"method {method}: start {start} is for score_init weight, not {mask.score_init}")
    if start == "importance" and mask.granularity != "group":
        raise ConfigError(
            f"method {method}: start importance is for granularity group, not {mask.granularity}; the importance of "
            "single weights would take as much memory as the weights"
        )
    return filled


def attach_pruning(module: nn.Module, method: str, mask: MaskConfig, conf: Mapping[str, Any]) -> None:
    """Freeze a model but for the weights that are pruned; whoever trains it frees the others that train, too.

    Raises:
        ConfigError: as `check` and `s3router.masks.attach`.
    """
    filled = check(method, conf, mask)
    scored = method == "router_p"
    members: list[PrunedWeight] = attach(module, mask if scored else replace(mask, score_init="one"), PrunedWeight)
    groups = {group.weight: group for group in find_groups(module)} if mask.granularity == "group" else {}
    for name, owner in module.named_modules():
        for parameter, chain in owner.parametrizations.items() if parametrize.is_parametrized(owner) else ():
            if isinstance(chain[0], PrunedWeight):
                chain[0].place(owner, parameter, module, groups.get(f"{name}.{parameter}"))
                chain.original.requires_grad_(True)
    if filled.get("start") == "importance":
        for member in members:
            member.importance = torch.zeros_like(member.scores.detach())
    shared = [member for member in members if member.group is not None]
    own = [[member] for member in members if member.group is None]
    pools = [Pool(shared, mask.sparsity)] if shared else []
    pools += [Pool([member], member.sparsity) for [member] in own]
    for member in () if scored else members:
        member.fix(torch.ones_like(member.weight, dtype=torch.bool))
        member.dense = method in REVIVING
    module.__dict__[RECORD] = Pruning(method, filled, mask, pools)


def pruning_of(model: nn.Module) -> tuple[nn.Module, Pruning] | None:
    """The part of a model that is pruned, and how; None where nothing is."""
    found = ((module, module.__dict__[RECORD]) for module in model.modules() if RECORD in module.__dict__)
    return next(found, None)
