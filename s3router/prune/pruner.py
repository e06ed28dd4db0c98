"""What pruning does between two updates of a training, whichever trainer makes them."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from s3router.errors import TrainingError
from s3router.masks.binarize import exact_share, removed_count
from s3router.prune.attach import Pruning, pruning_of
from s3router.prune.magnitude import keep_largest
from s3router.prune.pruned_weight import Pool
from s3router.prune.schedule import RESTS, REVIVING, Schedule

logger = logging.getLogger(__name__)

_UNITS = {"ffn": "hidden units", "attention": "attention heads"}


class Pruner:
    """Prunes a model while it trains; for a model of another method it does nothing.

    A trainer calls `begin` once before the first update that it makes (of a resumed run, too), `after` when an update
    is done and before anything is validated or saved, and `end` after the last. All that it knows is in the model and
    the number of updates, so a run that was killed goes on exactly.

    Args:
        model: as the method has set it up, with ``requires_grad`` where something trains.
        updates: of the whole training.
        held: of the first of these, in which the head trains alone.
    """

    def __init__(self, model: nn.Module, updates: int, held: int = 0):
        found = pruning_of(model)
        self.pruning: Pruning | None = None
        if found is None:
            return
        backbone, self.pruning = found
        conf = self.pruning.conf
        self.schedule = Schedule.of(self.pruning.method, conf, self.pruning.mask.sparsity, updates, held)
        self.members = self.pruning.members
        scores = [member.scores for member in self.members if member.scores is not None]
        own = {id(score) for score in scores}
        weights = [p for p in backbone.parameters() if p.requires_grad and id(p) not in own]
        self._turns = (weights, scores)
        self._follows = conf.get("start") in ("finetuned", "importance")

    def begin(self, update: int) -> None:
        """Bring the model to where it is after so many updates."""
        if self.pruning is None:
            return
        if self.schedule.switch is not None:
            first = update < self.schedule.switch
            for member in self.members:
                member.dense = first
            turns = (first or not self.schedule.rests, not first)
            for now, parameters in zip(turns, self._turns, strict=True):
                for parameter in parameters:
                    _let(parameter, now)
        self._rise(update)
        if update == 0:
            self._prune(0)

    def after(self, update: int) -> None:
        """Go on from an update that is done; the number of those done so far."""
        if self.pruning is None:
            return
        switch = self.schedule.switch
        if switch is None:
            self._prune(update)
        elif update <= switch and self._follows:
            self._follow()
        self._rise(update)
        if update == switch:
            self.begin(update)
            now = (
                "they rest, and the scores of masks train" if self.schedule.rests else "the scores of masks train, too"
            )
            logger.info("update %d: so far the weights trained; now %s", update, now)

    def end(self) -> None:
        """Check that as many weights are removed as was asked for.

        Raises:
            TrainingError: they are not.
        """
        if self.pruning is None:
            return
        modes = [member.training for member in self.members]
        for member in self.members:
            member.eval()
        for pool in self.pruning.pools:
            masks = [member.keep_units() for member in pool.members]
            costs = [member.cost for member in pool.members] if self._by_cost(pool) else [1] * len(masks)
            removed = sum(cost * int((~mask).sum()) for cost, mask in zip(costs, masks, strict=True))
            units = sum(cost * mask.numel() for cost, mask in zip(costs, masks, strict=True))
            n_m = self.pruning.mask.n_m
            wanted = units // n_m[1] * (n_m[1] - n_m[0]) if n_m else removed_count(pool.sparsity, units)
            if not wanted - max(costs) < removed <= wanted:  # by cost, the next one may not have fitted in
                raise TrainingError(
                    f"{removed} of {units} are removed, and {wanted} should be: s3router's fault; please report it"
                )
        counts: dict[str, tuple[int, int]] = {}
        for member in self.members:
            units = member.units
            mask = member.keep_units() if units else member.keep().expand(member.weight.shape)
            what = _UNITS[units.role] if units else "weights"
            removed, total = counts.get(what, (0, 0))
            counts[what] = removed + int((~mask).sum()), total + mask.numel()
        for member, mode in zip(self.members, modes, strict=True):
            member.train(mode)
        words = [f"{n:,} of {of:,} {what} ({n / of:.2%})" for what, (n, of) in counts.items()]
        logger.info("pruned: removed are %s in %d matrices", " and ".join(words), len(self.members))

    def _by_cost(self, pool: Pool) -> bool:
        return self.pruning.mask.scope == "flops" and pool.members[0].group is not None

    def _rise(self, update: int) -> None:
        for pool in self.pruning.pools:
            pool.share = self.schedule.share(update)

    @torch.no_grad()
    def _prune(self, update: int) -> None:
        share = self.schedule.steps.get(update)
        if share is None:
            return
        revives = self.pruning.method in REVIVING
        removed = total = back = before = 0
        for pool in self.pruning.pools:
            weights = [member.weight for member in pool.members]
            old = None if revives else [member.mask for member in pool.members]
            new = keep_largest(weights, exact_share(pool.sparsity) * share, old)
            for member, weight, mask in zip(pool.members, weights, new, strict=True):
                back, before = back + int((mask & ~member.mask).sum()), before + int((~member.mask).sum())
                removed, total = removed + int((~mask).sum()), total + mask.numel()
                member.mask.copy_(mask)
                weight.masked_fill_(~mask, 0)
        came = f"; {100 * back / before:.2f} % of those removed before had come back" if before and revives else ""
        logger.info("update %d: %.2f %% of the weights are removed%s", update, 100 * removed / total, came)

    @torch.no_grad()
    def _follow(self) -> None:
        """Scores that will start from what the first part leaves are so until then, for validation to see."""
        for pool in self.pruning.pools:
            for member in pool.members:
                if member.importance is not None:
                    _average(member.importance)
            for member, values in zip(pool.members, self.pruning.values(pool), strict=True):
                member.scores.copy_(values / self.pruning.mask.init_scale)
                if member.averaged is not None:
                    member.averaged.copy_(member.scores)  # which begins with the scores' own training


def _average(tensor: Tensor) -> None:
    """Over the processes that train together, each of which has seen batches of its own; in place."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
        tensor /= torch.distributed.get_world_size()


def _let(parameter: Tensor, train: bool) -> None:
    """Let a parameter train, or rest."""
    parameter.requires_grad_(train)
    setattr(parameter, RESTS, not train)
    if not train:
        parameter.grad = None
