"""A torch parametrization that masks a weight by its scores: weight -> weight * mask(scores)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from s3router.errors import CheckpointError
from s3router.masks.binarize import Fixed, Selection, affordable, removed_count, select, select_n_m
from s3router.masks.functions import Gate, Masked, MaskedLinear, compute_dtype, frozen_linear


class GlobalGroup:
    """The masks that share one threshold; together they lose ⌊sparsity · total⌋ scores (scope ``global``).

    With ``by_cost`` (scope ``flops``) they lose the smallest scores that together cost at most ``sparsity`` of what all
    cost (`WeightMask.cost`). Fixed masks stay members, without a say: scores that are loaded again count again.
    """

    def __init__(self, sparsity: float, by_cost: bool = False) -> None:
        self.sparsity = sparsity
        self.by_cost = by_cost
        self.masks: list[WeightMask] = []
        self._key: Any = None
        self._selections: list[Selection] = []

    def selection_of(self, mask: WeightMask, averaged: bool = False) -> Selection:
        """The current selection of one member; made anew for all where any member's scores have changed.

        Args:
            averaged: by the averages of the scores.
        """
        members = [m for m in self.masks if m.scores is not None]
        if averaged:
            for member in members:
                member.take_in()
        scores = [m.averaged if averaged else m.scores for m in members]
        key = tuple(tensor_version(s) for s in scores)
        if key != self._key or None in key:
            if self.by_cost:
                count = affordable(scores, [m.cost for m in members], self.sparsity)
            else:
                count = removed_count(self.sparsity, sum(s.numel() for s in scores))
            self._selections = list(select(scores, count))
            self._key = key
        return self._selections[next(i for i, m in enumerate(members) if m is mask)]

    def refresh(self) -> None:
        """Forget the threshold, so that the next forward pass makes it anew."""
        self._key = None


class WeightMask(nn.Module):
    """Parametrization of one weight (rows, columns): returns it with zeros where the scores are smallest.

    The mask is found by partial selection, and not again until the scores change, however often the model runs forward.
    A change is seen by the tensors' version counters and addresses: optimizer steps, in-place edits,
    ``load_state_dict``, ``.to()`` and ``copy.deepcopy`` all show. Only edits through ``.data`` go unseen: call
    :meth:`refresh` after them.

    The masked weight has the dtype that autocast computes in. It is kept until the scores or the weight change, except
    in training through :meth:`linear`: there it is made for each use, which is cheap next to the product, and the
    weights of a whole model less stay in memory.

    With an average of the scores (`MaskConfig.score_average`) the mask in evaluation mode is the average's. It takes in
    each new value of the scores once, at the next use of the mask.

    Gradient, with G the gradient of the masked weight: d loss/d|S| = G * W (straight-through), times the slope of
    sigmoid(|S|) with the estimator ``sigmoid``; d|S|/dS is the sign of S, and 1 at 0 (0 would freeze zero scores for
    ever). Nothing but the weight and the scores themselves is kept for the backward pass.

    Attributes:
        scores: float parameter of shape (rows, columns), (rows, 1) or (1, columns); None while the mask is fixed.
        block: columns that a score stands for, where it stands for several; the scores are (1, columns / block) then.
        cost: of what one score stands for, in a group that goes by cost.
        averaged: buffer of the scores' shape, or None.
        row_scale: float parameter (rows, 1) that the masked weight is multiplied by, or None.
        mask: bool buffer of a fixed mask, in the weight's shape or the scores', True = kept; None while scores decide.
    """

    scores: nn.Parameter | None
    mask: Tensor | None

    def __init__(
        self,
        scores: Tensor | None = None,
        *,
        sparsity: float = 0.0,
        n_m: tuple[int, int] | None = None,
        estimator: str = "straight_through",
        group: GlobalGroup | None = None,
        mask: Tensor | None = None,
        average: float = 0.0,
        gradient_dropout: float = 0.0,
        gradient_rest: float = 0.0,
        rows: int | None = None,
        block: int | None = None,
        cost: int = 1,
    ) -> None:
        super().__init__()
        self.sparsity = sparsity
        self.n_m = n_m
        self.estimator = estimator
        self.group = group
        self.register_parameter("scores", None if scores is None else nn.Parameter(scores))
        self.register_buffer("mask", mask)
        self.average = average
        self.gradient_dropout = gradient_dropout
        self.gradient_rest = gradient_rest
        self.block = block
        self.cost = cost
        self.register_buffer("averaged", scores.detach().clone() if average and scores is not None else None)
        scale = None if rows is None else nn.Parameter(scores.new_ones(rows, 1))
        self.register_parameter("row_scale", scale)
        self._taken_in: Any = None
        self._forget()
        if group is not None:
            group.masks.append(self)

    def forward(self, weight: Tensor) -> Tensor:
        """(rows, columns) -> (rows, columns), in the dtype of `weight` or the lower one that autocast computes in."""
        if self._gates:
            return weight * self.gate(weight.dtype)
        records = self._records(weight)
        selection, masked = self._current(weight, compute_dtype(weight), self._deciding(records))
        if records:
            masked = Masked.apply(weight, self._at_work(), masked, selection, self.estimator, self._dropout)
        return masked if self.row_scale is None else masked * self.row_scale.to(masked.dtype)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``F.linear(input, self(weight), bias)`` with less memory: (…, columns) -> (…, rows)."""
        if self._gates:
            return frozen_linear(input * self.gate(input.dtype), weight, bias)
        dtype = compute_dtype(weight)
        if torch.is_autocast_enabled(weight.device.type):
            input, bias = input.to(dtype), None if bias is None else bias.to(dtype)
        if self.row_scale is not None:
            # of the output's columns: the masked weight itself need not be kept for the scale's gradient
            output = self._product(input, weight, None, dtype) * self.row_scale.to(dtype).squeeze(1)
            return output if bias is None else output + bias
        return self._product(input, weight, bias, dtype)

    def _product(self, input: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """``F.linear`` with the masked weight, before its rows are scaled."""
        if not self._records(weight):
            return F.linear(input, self._current(weight, dtype, self._deciding(False))[1], bias)
        self._masked.clear()
        selection = self._select(self._deciding(True))
        return MaskedLinear.apply(input, bias, weight, self._at_work(), selection, self.estimator, self._dropout)

    @property
    def _gates(self) -> bool:
        """Whether inputs are multiplied by 0 or 1, which takes less than weights: where a score stands for columns."""
        return self.block is not None and self.scores is not None

    def gate(self, dtype: torch.dtype) -> Tensor:
        """0 or 1 for each column (columns,); its gradient goes to the scores of the blocks."""
        records = self.scores.requires_grad and torch.is_grad_enabled()
        deciding = self._deciding(records)
        gate = self._select(deciding).keep(deciding).to(dtype)
        if records:
            gate = Gate.apply(self._at_work(), gate, self.estimator, self._dropout)
        return gate.repeat_interleave(self.block, 1).squeeze(0)

    @property
    def _dropout(self) -> float:
        return self.gradient_dropout if self.training else 0.0

    def _at_work(self) -> Tensor | None:
        """The scores; without a gradient where they rest in this pass."""
        rests = self.gradient_rest and self.training and self.scores is not None and torch.rand(()) < self.gradient_rest
        return self.scores.detach() if rests else self.scores

    def _records(self, weight: Tensor) -> bool:
        """Whether autograd is to reach the weight or the scores."""
        trained = weight.requires_grad or (self.scores is not None and self.scores.requires_grad)
        return trained and torch.is_grad_enabled()

    def keep(self) -> Tensor:
        """The current mask, a new bool tensor: True = kept.

        (rows, columns), or (rows, 1) or (1, columns) where it is the same for all columns or rows.
        """
        units = self.keep_units()
        return units.repeat_interleave(self.block, 1) if self._gates else units

    def keep_units(self) -> Tensor:
        """The same in the shape of the scores (of the weight, if fixed)."""
        deciding = self._deciding(False)
        return self._select(deciding).keep(deciding).clone()

    def _deciding(self, records: bool) -> Tensor | None:
        """The scores that decide: in evaluation, where nothing ``records`` a graph, their average, if there is one."""
        return self.scores if self.averaged is None or self.training or records else self.averaged

    @torch.no_grad()
    def take_in(self) -> None:
        """Let the average follow the scores, if they have changed since it last did."""
        if self.averaged is None or self.scores is None:
            return
        key = tensor_version(self.scores)
        if self._taken_in is not None and key != self._taken_in:
            self.averaged.lerp_(self.scores, 1 - self.average)
        self._taken_in = key

    def fix(self, mask: Tensor | None = None) -> None:
        """Hold the mask as it is now, or hold `mask` (rows, columns), and drop the scores."""
        mask = self.keep() if mask is None else mask
        self.scores = self.averaged = None
        self.mask = mask
        self.refresh()

    def refresh(self) -> None:
        """Forget the mask, so that the next forward pass makes it anew: needed after edits through ``.data`` only."""
        self._forget()
        if self.group is not None:
            self.group.refresh()

    def _forget(self) -> None:
        self._scores_key: Any = None
        self._weight_key: Any = None
        self._selection: Selection | None = None
        self._applied: Selection | None = None
        self._masked: dict[torch.dtype, Tensor] = {}

    def leave_group(self) -> None:
        """Stop sharing a threshold; the others' is then made over the rest."""
        if self.group is not None:
            self.group.masks = [m for m in self.group.masks if m is not self]
            self.group.refresh()
            self.group = None

    def _select(self, deciding: Tensor | None) -> Selection:
        """The current selection by these scores (None: the mask is fixed); made anew where they have changed."""
        self.take_in()
        key = tensor_version(self.mask if deciding is None else deciding)
        shared = self.group is not None and deciding is not None
        if key is not None and key == self._scores_key and not shared:
            return self._selection
        # Tensors made in inference mode could not be used in training later: leave it.
        with torch.inference_mode(False), torch.no_grad():
            if shared:
                return self.group.selection_of(self, deciding is not self.scores)
            if deciding is None:
                self._selection = Fixed(self.mask)
            elif self.n_m:
                self._selection = select_n_m(deciding, *self.n_m)
            else:
                [self._selection] = select([deciding], removed_count(self.sparsity, deciding.numel()))
        self._scores_key = key
        return self._selection

    def _current(self, weight: Tensor, dtype: torch.dtype, deciding: Tensor | None) -> tuple[Selection, Tensor]:
        """The current selection and the masked weight in `dtype`, made anew where scores or weight have changed."""
        selection, key = self._select(deciding), tensor_version(weight)
        if key is None or key != self._weight_key or selection is not self._applied:
            self._masked = {}
            self._weight_key, self._applied = key, selection
        if dtype not in self._masked:
            with torch.inference_mode(False), torch.no_grad():
                self._masked[dtype] = selection.apply(weight, deciding, dtype)
        return selection, self._masked[dtype]

    def _apply(self, fn: Any, recurse: bool = True) -> WeightMask:
        self.take_in()
        self.refresh()  # .to() and its like replace the tensors' data
        super()._apply(fn, recurse)
        self._taken_in = None if self.scores is None else tensor_version(self.scores)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Copies make their own masks: no use in copying these.
        self.take_in()
        made = {"_scores_key": None, "_weight_key": None, "_selection": None, "_applied": None, "_masked": {}}
        made["_taken_in"] = None
        return self.__dict__ | made

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take on what the state dict holds: scores to train on, or a fixed mask."""
        scores, mask = state_dict.get(prefix + "scores"), state_dict.get(prefix + "mask")
        if mask is not None and mask.dtype != torch.bool:
            raise CheckpointError(f"{prefix}mask: expected bool, found {mask.dtype}")
        here = self.mask if self.scores is None else self.scores
        for name, new, old in (("scores", scores, self.scores), ("mask", mask, self.mask)):
            # torch itself compares the shapes only where the same kind of tensor is here already
            if new is not None and old is None and not _compatible(new.shape, here.shape):
                raise CheckpointError(f"{prefix}{name}: expected shape {list(here.shape)}, found {list(new.shape)}")
        if mask is not None and self.mask is None:
            self.fix(torch.empty_like(mask, device=here.device))
        elif scores is not None and self.scores is None:
            self.mask = None
            self.scores = nn.Parameter(torch.empty_like(scores, device=here.device))
        self.refresh()
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._taken_in = None if self.scores is None else tensor_version(self.scores)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self.take_in()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def extra_repr(self) -> str:
        if self.scores is None:
            return "fixed"
        amount = f"{self.n_m[0]}:{self.n_m[1]}" if self.n_m else f"sparsity={self.sparsity}"
        return f"{amount}, {self.estimator}"


def _compatible(first: torch.Size, second: torch.Size) -> bool:
    """Whether both can be of one weight: the same shape, but for a single row or column that stands for all."""
    return len(first) == len(second) and all(a == b or 1 in (a, b) for a, b in zip(first, second, strict=True))


def tensor_version(tensor: Tensor) -> tuple[Any, ...] | None:
    """What changes when the tensor does; None where that cannot be known (tensors made in inference mode)."""
    if tensor.is_inference():
        return None
    return tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device


def _mark_changed(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Fused optimizers do not raise the version counter of what they change, as all others do."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            torch.autograd.graph.increment_version([p for p in group["params"] if p.grad is not None])


register_optimizer_step_post_hook(_mark_changed)
