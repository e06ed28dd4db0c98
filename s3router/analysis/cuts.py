"""Where masks cut: by layer, role, head and unit, against the initial mask, by magnitude, and in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from s3router.analysis.mask_set import MaskSet, Weight, removed_words, unpack
from s3router.analysis.similarity import Overlap, hypergeometric_variance
from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, detach, masks_of
from s3router.masks.groups import hidden_axis
from s3router.packs.contents import PackMeta
from s3router.tuners import METHODS

_BINS, _IN_BIN = 256, 32  # bins of magnitude, and the fewest weights in one
_BY_RANK = ("ori", "weight", "zero", "one", "binary_magnitude", "binary_negative_magnitude")
"""Initialisations whose first mask depends on the weights alone, not on a seed."""
_OUTPUT_PROJECTION = re.compile(r"\.(out_proj|linear_out|output\.dense)\.weight$")


class Magnitudes:
    """Bins of equally many weights by magnitude, matrix by matrix.

    Args:
        weights: name -> (rows, columns), of the backbone.
        bins: at most so many; fewer where a matrix has under 32 weights for each.

    Attributes:
        sizes: int64 (matrices, bins), the weights in each, the smallest first. Equal magnitudes fall into one bin
            (zeros into the first), so that others may be empty.
        zeros: weights of magnitude 0, in all.
    """

    def __init__(self, weights: Mapping[str, Tensor], bins: int = _BINS):
        self.names = tuple(weights)
        smallest = min(tensor.numel() for tensor in weights.values())
        self.bins = max(1, min(bins, smallest // _IN_BIN))
        self.zeros = 0
        self._bin: dict[str, np.ndarray] = {}
        for name, tensor in weights.items():
            magnitude = tensor.detach().float().abs().cpu().numpy().reshape(-1)
            places = [len(magnitude) * edge // self.bins for edge in range(1, self.bins)]
            edges = np.sort(magnitude)[places]
            self._bin[name] = np.searchsorted(edges, magnitude, side="right").astype(np.uint8)
            self._bin[name][magnitude == 0] = 0  # of a pruned backbone many: the smallest, not those up to its sparsity
            self.zeros += int((magnitude == 0).sum())
        self.sizes = np.stack([np.bincount(index, minlength=self.bins) for index in self._bin.values()])

    def count(self, removed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Removed weights by name, bool (weights,) -> int64 (matrices, bins)."""
        return np.stack([np.bincount(self._bin[name][removed[name]], minlength=self.bins) for name in self.names])


def explained(removed: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What the magnitude's rank says of a mask: mutual information over entropy, 0 (nothing) to 1 (all).

    Args:
        removed: int64 (…, bins), weights removed in each bin.
        sizes: int64 (…, bins), broadcastable to it.

    Returns:
        float64 (…,); NaN where a mask removes nothing or everything.
    """
    sizes = np.broadcast_to(sizes, removed.shape)
    total = sizes.sum(-1)
    whole = total * _entropy(removed.sum(-1) / total)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = (sizes * _entropy(removed / np.maximum(sizes, 1))).sum(-1)
        return np.where(whole > 0, 1 - within / whole, np.nan)


def _entropy(share: np.ndarray) -> np.ndarray:
    """Bits per weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = [np.where(p > 0, -p * np.log2(p), 0.0) for p in (share, 1 - share)]
    return terms[0] + terms[1]


def prunes(meta: PackMeta) -> bool:
    """Whether the masks follow weights that trained beside them, and came with the pack, not the backbone's."""
    method = METHODS.get(str(meta.training.get("method")))
    return method is not None and method.prunes


class InitialMasks:
    """The masks that trainings began with, made again from what packs say of them.

    Args:
        backbone: the bare model; unchanged afterwards.
    """

    def __init__(self, backbone: nn.Module):
        self._backbone = backbone
        self._known: dict[str, dict[str, np.ndarray]] = {}

    def of(self, meta: PackMeta, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
        """Name -> uint64 words, 1 = removed.

        Args:
            names: the masked weights.

        Returns:
            None where the pack does not say how its masks began, or they began at weights that had been trained
            before (pruning) or at masks of others.
        """
        if "sparsity" not in meta.mask or prunes(meta):
            return None
        try:
            config = MaskConfig.from_dict(meta.mask)
        except ConfigError:  # of a newer version, say
            return None
        if config.start_packs:
            return None
        # what a recipe calls its targets, the pack's names say in full
        config = replace(config, targets=names, layers=None, train=(), score_average=0.0, estimator="straight_through")
        if config.score_init in _BY_RANK:
            config = replace(config, seed=0)
            if config.score_init == "ori":  # ranks as the weights do
                config = replace(config, score_init="weight", init_scale=1.0)
        key = json.dumps(config.to_dict(), sort_keys=True)
        if key not in self._known:
            self._known[key] = self._make(config)
        return self._known[key] or None

    def _make(self, config: MaskConfig) -> dict[str, np.ndarray]:
        try:
            attach(self._backbone, config)
        except ConfigError:  # sparsities of layers or roles that masks are not on
            return {}
        try:
            return {name: removed_words(mask) for name, mask in masks_of(self._backbone).items()}
        finally:
            detach(self._backbone)


@dataclass(frozen=True)
class FromInitial:
    """Masks against the initial ones of their trainings: float64 (matrices, sources), NaN where these are not known.

    Attributes:
        masks: the set.
        initial: weights that the initial mask removes.
        common: weights that both remove.
    """

    masks: MaskSet
    initial: np.ndarray
    common: np.ndarray

    def changed(self, rows: np.ndarray) -> np.ndarray:
        """Over these matrices, (sources,): the share of the removed weights that the initial mask kept."""
        removed = self.masks.counts[rows].sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(removed > 0, 1 - self.common[rows].sum(0) / removed, np.nan)

    def over(self, rows: np.ndarray) -> Overlap:
        """Over these matrices, arrays (sources,): each mask (`first`) and its initial one; chance is that of single
        weights."""
        sizes, counts = self.masks.sizes[rows][:, None].astype(np.float64), self.masks.counts[rows].astype(np.float64)
        initial = self.initial[rows]
        return Overlap(
            np.full(counts.shape[1], sizes.sum()),
            counts.sum(0),
            initial.sum(0),
            self.common[rows].sum(0),
            (counts * initial / sizes).sum(0),
            hypergeometric_variance(sizes, counts, initial).sum(0),
        )


def from_initial(masks: MaskSet, initial: InitialMasks) -> FromInitial:
    """Hold each mask against the one that its training began with."""
    names = tuple(weight.name for weight in masks.weights)
    shape = len(masks.weights), len(masks.sources)
    removed, common = np.full(shape, np.nan), np.full(shape, np.nan)
    for column, source in enumerate(masks.sources):
        first = initial.of(source.meta, names)
        if first is None:
            continue
        for row, name in enumerate(names):
            removed[row, column] = np.bitwise_count(first[name]).sum(dtype=np.int64)
            common[row, column] = np.bitwise_count(masks.removed[row][column] & first[name]).sum(dtype=np.int64)
    return FromInitial(masks, removed, common)


@dataclass(frozen=True)
class Shared:
    """How many weights are removed by 0, 1, … all masks of a set: arrays (sources + 1,).

    Attributes:
        weights: int64, found.
        expected: float64, of independent masks of the same sparsities.
        given_magnitude: float64, of masks that depend on the magnitudes alone; None: these are not known.
    """

    weights: np.ndarray
    expected: np.ndarray
    given_magnitude: np.ndarray | None

    @property
    def used(self) -> int:
        """Weights that at least one route keeps: what all of them together need (the union)."""
        return int(self.weights[:-1].sum())

    @property
    def kept_by_all(self) -> int:
        """Weights that no route removes (the intersection)."""
        return int(self.weights[0])


def shared(masks: MaskSet, by_magnitude: tuple[np.ndarray, np.ndarray] | None = None) -> Shared:
    """Count for each weight the masks that remove it. `by_magnitude`: as of `s3router.analysis.similarity.overlaps`."""
    count = len(masks.sources)
    weights, expected = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    given = None if by_magnitude is None else np.zeros(count + 1)
    for row, weight in enumerate(masks.weights):
        times = np.zeros(weight.count, np.uint8 if count < 256 else np.uint16)
        for bits in masks.removed[row]:
            times += unpack(bits, weight.count)
        weights += np.bincount(times, minlength=count + 1)
        expected += weight.count * poisson_binomial(masks.counts[row] / weight.count)
        if given is not None:
            removed, sizes = by_magnitude[0][row], by_magnitude[1][row]
            given += (poisson_binomial(removed / np.maximum(sizes, 1)) * sizes).sum(-1)
    return Shared(weights, expected, given)


def poisson_binomial(p: np.ndarray) -> np.ndarray:
    """Probabilities (n, …) of independent events -> those of 0, 1, … n of them happening, (n + 1, …)."""
    found = np.zeros((len(p) + 1, *p.shape[1:]))
    found[0] = 1
    for n, each in enumerate(p, 1):
        found[1 : n + 1] = found[1 : n + 1] * (1 - each) + found[:n] * each
        found[0] *= 1 - each
    return found


def units(masks: MaskSet) -> Iterator[dict[str, Any]]:
    """How evenly masks cut over the hidden units of feed-forward layers: a row for each source and matrix.

    A unit is a row of a layer's first matrix, a column of its last. ``dispersion`` is the variance of the removed
    weights per unit over that of a mask at random: 1 where units are cut alike, more where some are cut off. None for
    matrices whose name does not tell which of the two they are.
    """
    for row, weight in enumerate(masks.weights):
        axis = hidden_axis(weight.name) if weight.role == "ffn" else None
        if axis is None:
            continue
        count, size = weight.shape[axis], weight.shape[1 - axis]
        for source, bits in zip(masks.sources, masks.removed[row], strict=True):
            per_unit = unpack(bits, weight.count).reshape(weight.shape).sum(1 - axis, dtype=np.int64)
            chance = float(hypergeometric_variance(weight.count, size, per_unit.sum()))
            yield _of(source.label, weight) | {
                "units": count,
                "weights_per_unit": size,
                "mean_removed": per_unit.mean() / size,
                "least_removed": per_unit.min() / size,
                "most_removed": per_unit.max() / size,
                "dispersion": per_unit.var() / chance if chance else np.nan,
                "units_removed": int((per_unit == size).sum()),
            }


def heads(masks: MaskSet, backbone: nn.Module) -> Iterator[dict[str, Any]]:
    """The share removed in each attention head: rows of the query, key and value, columns of the output projection.

    A row for each source, matrix and head; ``z`` is in deviations of a mask at random. None for matrices whose module
    does not say how many heads it has.
    """
    for row, weight in enumerate(masks.weights):
        count = _head_count(backbone, weight)
        if count is None:
            continue
        by_columns = _OUTPUT_PROJECTION.search(weight.name) is not None
        length = weight.shape[1 if by_columns else 0]
        width = length // 3 if weight.name.endswith("in_proj_weight") else length  # query, key and value in one
        if width % count:
            continue
        head = np.arange(length) % width // (width // count)
        for source, bits in zip(masks.sources, masks.removed[row], strict=True):
            per_row = unpack(bits, weight.count).reshape(weight.shape).sum(0 if by_columns else 1, dtype=np.int64)
            removed = np.bincount(head, weights=per_row, minlength=count)
            size = weight.count // count
            deviation = np.sqrt(hypergeometric_variance(weight.count, size, removed.sum()))
            for number in range(count):
                yield _of(source.label, weight) | {
                    "head": number,
                    "weights": size,
                    "removed": int(removed[number]),
                    "share": removed[number] / size,
                    "z": (removed[number] - removed.sum() / count) / deviation if deviation else np.nan,
                }


def _head_count(backbone: nn.Module, weight: Weight) -> int | None:
    if "attention" not in weight.role:
        return None
    name = weight.name
    while "." in name:
        name = name.rpartition(".")[0]
        try:
            module = backbone.get_submodule(name)
        except AttributeError:
            continue
        for attribute in ("num_heads", "num_attention_heads", "n_heads", "h"):
            if isinstance(value := getattr(module, attribute, None), int):
                return value
    return None


def _of(label: str, weight: Weight) -> dict[str, Any]:
    return {"pack": label, "layer": weight.place, "role": weight.role, "matrix": weight.name}
