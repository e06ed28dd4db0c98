"""From scores to masks, by partial selection instead of a sort.

Removed are exactly the k scores of smallest magnitude. Scores of equal magnitude go in order of position, so the same
scores give the same mask on every device and rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from s3router.errors import S3RouterError

# Below this many scores a plain partition is as fast as narrowing the range down first.
_SMALL = 1 << 17
_SAMPLE = 1 << 15
# On a CPU, tensors are gone through in blocks of this many values: a megabyte, so that the passes over a block stay in
# cache and their temporaries are small.
_BLOCK = 1 << 18


def exact_share(sparsity: float | Fraction) -> Fraction:
    """A float as the decimal that was typed: 0.29 is 29/100, although the float is a little below it."""
    return sparsity if isinstance(sparsity, Fraction) else Fraction(repr(float(sparsity)))


def removed_count(sparsity: float | Fraction, total: int) -> int:
    """⌊sparsity · total⌋: how many of `total` scores are removed (`exact_share`)."""
    return math.floor(exact_share(sparsity) * total)


def row_blocks(tensor: Tensor) -> Iterator[slice]:
    """Cut a matrix (rows, columns) into blocks of rows that suit the cache; a single one on an accelerator."""
    rows = max(1, _BLOCK // tensor.shape[1]) if tensor.device.type == "cpu" else tensor.shape[0]
    for start in range(0, tensor.shape[0], rows):
        yield slice(start, start + rows)


def rows_of(scores: Tensor, rows: slice) -> Tensor:
    """These rows of scores (rows, columns) or (rows, 1); scores of columns (1, columns) go for every row."""
    return scores if scores.shape[0] == 1 else scores[rows]


class Selection(Protocol):
    """Which weights one tensor of scores keeps."""

    def keep(self, scores: Tensor) -> Tensor:
        """The mask in the shape of `scores`: bool, True = kept."""

    def apply(self, weight: Tensor, scores: Tensor, dtype: torch.dtype) -> Tensor:
        """A new tensor of `dtype`: `weight` (rows, columns) with zeros where removed."""


@dataclass(frozen=True)
class Threshold:
    """Scores of magnitude `value` or below are removed; with `ties`, only that many of those equal to it.

    The mask itself is not kept: it follows from the scores and this one number.
    """

    value: float
    ties: int | None = None

    def keep(self, scores: Tensor) -> Tensor:
        magnitudes = scores.detach().abs()
        removed = magnitudes <= self.value
        if self.ties is not None:
            tied = (magnitudes == self.value).flatten().nonzero().flatten()
            removed.view(-1)[tied[self.ties :]] = False
        return ~removed

    def apply(self, weight: Tensor, scores: Tensor, dtype: torch.dtype) -> Tensor:
        weight, scores = weight.detach(), scores.detach()
        if self.ties is not None:
            return weight.masked_fill(~self.keep(scores), 0).to(dtype)
        masked = torch.empty_like(weight, dtype=dtype)
        common = torch.promote_types(weight.dtype, scores.dtype)
        for rows in row_blocks(weight):
            # "weight where |scores| > value, else 0" in a single vectorised pass, several times as fast as abs, compare
            # and multiply. In the higher dtype of the two: rounded scores would fall on the wrong side.
            inputs = weight[rows].to(common), rows_of(scores, rows).to(common), self.value
            if dtype == common:
                torch.ops.aten.hardshrink_backward.grad_input(*inputs, grad_input=masked[rows])
            else:
                masked[rows].copy_(torch.ops.aten.hardshrink_backward(*inputs))
        return masked


@dataclass(frozen=True)
class Fixed:
    """A mask that is kept as it is."""

    mask: Tensor

    def keep(self, scores: Tensor | None = None) -> Tensor:
        return self.mask

    def apply(self, weight: Tensor, scores: Tensor | None, dtype: torch.dtype) -> Tensor:
        return weight.detach().to(dtype, copy=True).masked_fill_(~self.mask, 0)


@dataclass(frozen=True)
class Whole:
    """Nothing is removed."""

    def keep(self, scores: Tensor) -> Tensor:
        return torch.ones_like(scores, dtype=torch.bool)

    def apply(self, weight: Tensor, scores: Tensor | None, dtype: torch.dtype) -> Tensor:
        return weight.detach().to(dtype)


def select(scores: Sequence[Tensor], k: int) -> list[Threshold]:
    """Remove the k smallest magnitudes of all `scores` together; ties go tensor by tensor, then by position.

    Args:
        scores: tensors of any shape, on one device.
        k: how many to remove, 0 <= k < total.

    Raises:
        S3RouterError: the scores hold so many NaN that no threshold exists.
    """
    if k == 0:
        return [Threshold(-1.0)] * len(scores)
    tensors = [s.detach().flatten() for s in scores]
    if tensors[0].device.type == "cpu":
        # numpy views without a copy, except that it has no bfloat16
        arrays = [(t.float() if t.dtype == torch.bfloat16 else t).numpy() for t in tensors]
        value, ties, tied = _select_numpy(arrays, k)
    else:
        value, ties, tied = _select_torch(tensors, k)
    if math.isnan(value):
        raise S3RouterError("mask scores are NaN: training has diverged; lower the learning rate of the scores")
    if ties == tied:
        return [Threshold(value)] * len(scores)
    selections = []
    for tensor in tensors:
        here = min(ties, int((tensor.abs() == value).sum()))
        selections.append(Threshold(value, here))
        ties -= here
    return selections


def affordable(scores: Sequence[Tensor], costs: Sequence[int], sparsity: float | Fraction) -> int:
    """How many of the smallest magnitudes may go where each has a cost, and a share of all costs is to go at most.

    Args:
        scores: as of `select`, which removes that many in the same order.
        costs: of one score of each tensor.
        sparsity: share of the costs of all scores.
    """
    magnitudes = torch.cat([s.detach().flatten().abs() for s in scores])
    each = torch.cat([torch.full((s.numel(),), cost) for s, cost in zip(scores, costs, strict=True)])
    order = magnitudes.sort(stable=True).indices.cpu()
    return int((each[order].cumsum(0) <= removed_count(sparsity, int(each.sum()))).sum())


def _select_torch(tensors: Sequence[Tensor], k: int) -> tuple[float, int, int]:
    """As :func:`_select_numpy`, on an accelerator."""
    magnitudes = torch.cat([t.abs() for t in tensors])
    value = magnitudes.kthvalue(k).values
    less, at_most = torch.stack([(magnitudes < value).sum(), (magnitudes <= value).sum()]).tolist()
    return value.item(), k - less, at_most - less


def _select_numpy(arrays: Sequence[np.ndarray], k: int) -> tuple[float, int, int]:
    """(k-th smallest magnitude, how many equal to it are to be removed, how many equal to it there are).

    Sizeable inputs are narrowed down first: a sample gives a small range that holds the wanted value almost surely;
    one pass counts what lies below and gathers what lies within. The result is checked, and is exact.
    """
    total = sum(a.size for a in arrays)
    below, inside = 0, None
    if total >= _SMALL:
        low, high = _bracket(arrays, total, k)
        gathered = []
        for array in arrays:
            for start in range(0, array.size, _BLOCK):
                magnitudes = np.abs(array[start : start + _BLOCK])
                below += np.count_nonzero(magnitudes < low)
                gathered.append(magnitudes[(magnitudes >= low) & (magnitudes <= high)])
        inside = np.concatenate(gathered)
        if not below < k <= below + inside.size:
            below, inside = 0, None
    if inside is None:
        inside = np.concatenate([np.abs(a) for a in arrays])
    inside.partition(k - 1 - below)
    value = inside[k - 1 - below]
    less = below + np.count_nonzero(inside < value)
    return float(value), int(k - less), int(np.count_nonzero(inside == value))


def _bracket(arrays: Sequence[np.ndarray], total: int, k: int) -> tuple[float, float]:
    """A range that the k-th smallest magnitude lies in almost surely: five deviations around it in a sample."""
    stride = total // _SAMPLE | 1  # odd, so as not to stay in one column of a matrix
    sample = np.abs(np.concatenate([a[::stride] for a in arrays]))
    share = k / total
    spread = 5 * math.sqrt(sample.size * share * (1 - share)) + 5
    first, last = int(share * sample.size - spread), int(share * sample.size + spread)
    sample.partition([max(first, 0), min(last, sample.size - 1)])
    low = sample[first] if first >= 0 else 0.0
    high = sample[last] if last < sample.size else np.inf
    return low, high


def select_n_m(scores: Tensor, n: int, m: int) -> Fixed:
    """Of each `m` neighbours along the last dimension, keep the `n` of largest magnitude (ties: the later ones)."""
    groups = scores.detach().abs().view(-1, m)
    rank = torch.zeros_like(groups, dtype=torch.uint8 if m < 256 else torch.int32)
    # A score's rank is the number of neighbours that go before it: M cheap passes, the same on every device.
    position = torch.arange(m, device=scores.device)
    for other in range(m):
        column = groups[:, other : other + 1]
        rank += (column < groups) | ((column == groups) & (position > other))
    return Fixed((rank >= m - n).view(scores.shape))
