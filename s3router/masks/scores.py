"""Initial scores: a dict of functions, of which order-preserving random initialisation is the default.

Every function takes ``(values, fan_in, fan_out, sparsity, generator)`` and returns new float32 scores of the shape of
`values` on the CPU. `values` is what the scores rank: the weight itself, or the mean magnitude of its rows (n, 1) or
columns (1, n) in the structured granularities.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from s3router.masks.binarize import removed_count, select

ScoreInit = Callable[[Tensor, int, int, float, torch.Generator], Tensor]


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on the seed and the weight's name alone, not on order, device or rank."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _uniform(values: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return torch.empty(values.shape).uniform_(-bound, bound, generator=generator)


def _normal(values: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return torch.empty(values.shape).normal_(0.0, std, generator=generator)


def kaiming_uniform(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Uniform within ±1/√fan_in: Kaiming-uniform with a = √5, the default of torch linears."""
    return _uniform(values, 1 / math.sqrt(fan_in), generator)


def kaiming_normal(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Normal with deviation 1/√(3·fan_in): Kaiming-normal with a = √5."""
    return _normal(values, 1 / math.sqrt(3 * fan_in), generator)


def xavier_uniform(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Uniform within ±√(6/(fan_in + fan_out))."""
    return _uniform(values, math.sqrt(6 / (fan_in + fan_out)), generator)


def xavier_normal(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Normal with deviation √(2/(fan_in + fan_out))."""
    return _normal(values, math.sqrt(2 / (fan_in + fan_out)), generator)


def uniform(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Uniform within [0, 1)."""
    return torch.empty(values.shape).uniform_(0.0, 1.0, generator=generator)


def normal(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Standard normal."""
    return _normal(values, 1.0, generator)


def zero(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """All zero: at first, ties decide which weights go (those that come first)."""
    return torch.zeros(values.shape)


def one(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """All one: at first, ties decide which weights go (those that come first)."""
    return torch.ones(values.shape)


def weight(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """The weights themselves (``init_scale`` divides them): "weight magnitude with scale"."""
    # a weight may be the transposed view of another make's; scores are gone through row by row
    return values.detach().float().cpu().clone(memory_format=torch.contiguous_format)


def binary_magnitude(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """1 where magnitude pruning keeps, 0 where it removes."""
    scores = weight(values, fan_in, fan_out, sparsity, generator)
    [selection] = select([scores], removed_count(sparsity, scores.numel()))
    return selection.keep(scores).float()


def binary_negative_magnitude(
    values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator
) -> Tensor:
    """1 for the smallest magnitudes, 0 for the share `sparsity` of the largest: pruning turned round."""
    scores = weight(values, fan_in, fan_out, sparsity, generator).abs()
    return binary_magnitude(scores.max() - scores, fan_in, fan_out, sparsity, generator)


def ori(values: Tensor, fan_in: int, fan_out: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Order-preserving random initialisation (arXiv 2211.01522).

    Kaiming-uniform draws (a = √5), handed out so that |scores| ranks as |values| does: training starts from magnitude
    pruning, with random spacing. Equal magnitudes rank by position.
    """
    draws = kaiming_uniform(values, fan_in, fan_out, sparsity, generator).flatten()
    order = values.detach().float().cpu().abs().flatten().argsort(stable=True)
    scores = torch.empty_like(draws)
    scores[order] = _by_distinct_magnitude(draws)
    return scores.view(values.shape)


def _by_distinct_magnitude(draws: Tensor) -> Tensor:
    """Float32 draws (n,) in order of magnitude, equal magnitudes moved apart by the smallest possible steps upwards.

    In millions of float32 draws many are equal, and the mask at the start would differ from magnitude pruning by those.
    """
    # The bits of positive floats, read as integers, have the order of the floats, and neighbours differ by one. With
    # the sign bit moved to the end, a plain sort of integers is a sort by magnitude.
    bits = draws.numpy().view(np.uint32)
    bits = (bits << 1) | (bits >> 31)
    bits.sort()
    step = np.arange(bits.size, dtype=np.int32)
    magnitudes = (bits >> 1).view(np.int32) - step
    np.maximum.accumulate(magnitudes, out=magnitudes)
    magnitudes += step
    return torch.from_numpy((magnitudes.view(np.uint32) | (bits << 31)).view(np.float32))


SCORE_INITS: dict[str, ScoreInit] = {
    "ori": ori,
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "uniform": uniform,
    "normal": normal,
    "zero": zero,
    "one": one,
    "binary_magnitude": binary_magnitude,
    "binary_negative_magnitude": binary_negative_magnitude,
    "weight": weight,
}


def unit_magnitudes(weight: Tensor, granularity: str) -> Tensor:
    """What the scores of a weight (rows, columns) rank: itself, or the mean magnitude of each row or column."""
    if granularity == "output":
        return weight.detach().abs().mean(dim=1, keepdim=True)
    if granularity == "input":
        return weight.detach().abs().mean(dim=0, keepdim=True)
    return weight.detach()


def ranked_by_removals(weight: Tensor, removals: Tensor) -> Tensor:
    """Values for `ori` to rank in the place of a weight (rows, columns): those that others remove come first.

    Args:
        removals: how many other masks remove each weight, whole numbers (rows, columns). The more, the lower the rank;
            equal numbers rank by magnitude, and equal magnitudes by position.

    Returns:
        the ranks, new float32 (rows, columns) on the CPU, exact up to 2^24 weights.
    """
    by_magnitude = weight.detach().float().cpu().abs().flatten().argsort(stable=True)
    order = by_magnitude[removals.cpu().flatten()[by_magnitude].argsort(descending=True, stable=True)]
    ranks = torch.empty(order.numel())
    ranks[order] = torch.arange(order.numel(), dtype=torch.float32)
    return ranks.view(weight.shape)


def initial_scores(
    weight: Tensor,
    name: str,
    *,
    init: str,
    init_scale: float,
    granularity: str,
    sparsity: float,
    seed: int,
    values: Tensor | None = None,
) -> Tensor:
    """Initial scores of one weight, on its device: (rows, columns), (rows, 1) or (1, columns), float32.

    Args:
        values: what they rank, where it is not the weight's own magnitudes; the scores have its shape.
    """
    fan_out, fan_in = weight.shape
    values = unit_magnitudes(weight, granularity) if values is None else values
    scores = SCORE_INITS[init](values, fan_in, fan_out, sparsity, generator_for(seed, name))
    return (scores / init_scale).to(weight.device)
