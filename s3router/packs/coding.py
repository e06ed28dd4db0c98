"""The codec ``coded``: range coding of masks, each bit's probability conditioned on the weight's magnitude.

Masks start from magnitude pruning and often stay near it, so the rank of |weight| says much about what is removed, and
the reader has the weights, too. In each matrix the weights fall into a few magnitude bins. Their edges and the
probability of removal in each stand in the file, chosen so that edges, probabilities and bits together are fewest
(two-part coding; Rissanen, Modeling by shortest data description, Automatica 14, 1978): with nothing to gain there is
one bin, and the code is as long as the plain entropy. Masks of whole rows or columns take one bit for each of these.

The range coder is constriction's (Martin 1979; Bamler, arXiv 2201.01741). All numbers that a decoder depends on are
whole or compared only, so every machine decodes alike. docs/packs.md has the exact definition.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s3router.packs.description import Malformed, MaskEntry

QUANTILES = 1024  # edges are quantiles of |weight|, in 1/1024
SCALE = 1 << 16  # probabilities are in 1/65536
UNITS = ("weight", "row", "column")
_EDGE_BITS = 80  # what one more bin takes in the file: two numbers in JSON


def encode(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Any]], np.ndarray]:
    """Code masks {name: bool (rows, columns)} relative to `weights` {name: (rows, columns)}.

    Returns:
        name -> {"unit", "edges", "p"} for the description, and the code of all masks together, uint32 (words,).
    """
    from constriction import stream as coders

    encoder = coders.queue.RangeEncoder()
    codings = {}
    for name, mask in masks.items():
        removed = (~mask).cpu().numpy()
        unit, symbols = reduce_units(removed)
        if unit == "weight":
            edges = _choose_edges(symbols, magnitudes := _magnitudes(weights[name]))
            order, sizes = _by_bin(magnitudes, edges)
            symbols = symbols if order is None else symbols[order]
        else:
            edges, sizes = [], [len(symbols)]
        p = []
        for start, size in _runs(sizes):
            run = symbols[start : start + size]
            p.append(min(max(round(SCALE * int(run.sum()) / max(size, 1)), 1), SCALE - 1))
            encoder.encode(run.astype(np.int32), coders.model.Bernoulli(p[-1] / SCALE, perfect=False))
        codings[name] = {"unit": unit, "edges": edges, "p": p}
    return codings, encoder.get_compressed()


def decode(
    entries: Mapping[str, MaskEntry], stream: np.ndarray, weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, np.ndarray]]:
    """The masks in order, as bits (`s3router.packs.bits`); the other way of `encode`.

    Shapes have been held against `weights`.

    Raises:
        Malformed: settings or code that no encoder makes.
    """
    from constriction import stream as coders

    for name, entry in entries.items():
        _check(name, entry)
    decoder = coders.queue.RangeDecoder(np.array(stream, dtype=np.uint32))
    for name, entry in entries.items():
        unit, edges, p = (entry.coding[key] for key in ("unit", "edges", "p"))
        rows, columns = entry.shape
        order, sizes = None, [{"weight": rows * columns, "row": rows, "column": columns}[unit]]
        if edges:
            order, sizes = _by_bin(_magnitudes(weights[name]), edges)
        keep = np.empty(sum(sizes), np.bool_)
        try:
            for (start, size), share in zip(_runs(sizes), p, strict=True):
                symbols = decoder.decode(coders.model.Bernoulli(share / SCALE, perfect=False), size)
                keep[start : start + size] = symbols == 0
        except AssertionError:
            raise Malformed(f"mask {name!r}: its code is none") from None
        if order is not None:
            in_order, keep = keep, np.empty_like(keep)
            keep[order] = in_order
        yield name, bits_of_units(keep, unit, (rows, columns))
    if not decoder.maybe_exhausted():
        raise Malformed("more code than masks")


def reduce_units(removed: np.ndarray) -> tuple[str, np.ndarray]:
    """The unit that is removed as a whole, and the removals of these units."""
    if (removed == removed[:, :1]).all():
        return "row", removed[:, 0]
    if (removed == removed[:1]).all():
        return "column", removed[0]
    return "weight", removed.reshape(-1)


def bits_of_units(keep: np.ndarray, unit: str, shape: tuple[int, int]) -> np.ndarray:
    """Which units are kept, bool (units,) -> the bits of the mask of this shape."""
    if unit != "weight":
        keep = np.broadcast_to(keep[:, None] if unit == "row" else keep[None], shape)
    return np.packbits(keep.reshape(-1), bitorder="little")


def _magnitudes(weight: Tensor) -> np.ndarray:
    return weight.detach().to(device="cpu", dtype=torch.float32).abs().contiguous().numpy().reshape(-1)


def _thresholds(magnitudes: np.ndarray, edges: list[int]) -> np.ndarray:
    """The values at these quantiles: the ⌊n·edge/1024⌋-th smallest magnitude (from 0), for each edge."""
    places = [len(magnitudes) * edge // QUANTILES for edge in edges]
    return np.sort(magnitudes)[places]  # vectorised, and several times as fast as np.partition at many places


def _by_bin(magnitudes: np.ndarray, edges: list[int]) -> tuple[np.ndarray | None, list[int]]:
    """The order of weights bin after bin (None: as they stand), by position within a bin; and the bins' sizes.

    A weight's bin is the number of thresholds that its magnitude reaches.
    """
    if not edges:
        return None, [len(magnitudes)]
    bins = _bins(magnitudes, edges)
    return np.argsort(bins, kind="stable"), np.bincount(bins, minlength=len(edges) + 1).tolist()


def _bins(magnitudes: np.ndarray, edges: list[int]) -> np.ndarray:
    thresholds = _thresholds(magnitudes, edges)
    if len(edges) > 64:
        return np.searchsorted(thresholds, magnitudes, side="right").astype(np.uint16)
    bins = np.zeros(len(magnitudes), np.uint8)  # sorted by radix
    for threshold in thresholds:
        bins += magnitudes >= threshold
    return bins


def _runs(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """(start, size) of consecutive runs."""
    return zip(itertools.accumulate(sizes, initial=0), sizes, strict=False)


def _choose_edges(removed: np.ndarray, magnitudes: np.ndarray) -> list[int]:
    """The edges with which bits and edges together are fewest, by dynamic programming over the quantiles."""
    bins = _bins(magnitudes, list(range(1, QUANTILES)))
    total = np.concatenate([[0], np.bincount(bins, minlength=QUANTILES).cumsum()])
    gone = np.concatenate([[0], np.bincount(bins, weights=removed, minlength=QUANTILES).cumsum()])
    best, cut = np.zeros(QUANTILES + 1), np.zeros(QUANTILES + 1, int)
    for end in range(1, QUANTILES + 1):
        costs = best[:end] + _cost(total[end] - total[:end], gone[end] - gone[:end])
        cut[end] = costs.argmin()
        best[end] = costs[cut[end]] + _EDGE_BITS
    edges, place = [], int(cut[QUANTILES])
    while place:
        edges.append(place)
        place = int(cut[place])
    return edges[::-1]


def _cost(total: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Bits for runs of `total` weights of which `gone` are removed, under the best probability."""
    share = np.clip(gone / np.maximum(total, 1), 1 / SCALE, 1 - 1 / SCALE)
    return -gone * np.log2(share) - (total - gone) * np.log2(1 - share)


def _check(name: str, entry: MaskEntry) -> None:
    coding = entry.coding
    if coding.keys() != {"unit", "edges", "p"} or coding["unit"] not in UNITS:
        raise Malformed(f"mask {name!r}: its coding is not of this format")
    edges, p = coding["edges"], coding["p"]
    if not (_ascending(edges) and isinstance(p, list) and len(p) == len(edges) + 1):
        raise Malformed(f"mask {name!r}: its magnitude bins are damaged")
    if not all(type(share) is int and 0 < share < SCALE for share in p) or (edges and coding["unit"] != "weight"):
        raise Malformed(f"mask {name!r}: its probabilities are damaged")


def _ascending(edges: Any) -> bool:
    whole = isinstance(edges, list) and all(type(edge) is int and 0 < edge < QUANTILES for edge in edges)
    return whole and all(a < b for a, b in itertools.pairwise(edges))
