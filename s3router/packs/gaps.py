"""The codec ``gaps``: how many weights lie between two removed ones, Huffman-coded; made to be read fast.

As in `s3router.packs.coding`, the weights of a matrix fall into bins of magnitude, since masks often stay near
magnitude pruning. Within a bin, removals are taken for independent: gaps between them are geometric, and Huffman codes
for these (Golomb's, IEEE Trans. Inf. Theory 12, 1966) come within about a percent of the entropy. What decodes is zlib
(DEFLATE, RFC 1951, Huffman blocks alone) and whole-array arithmetic on the removed weights, a tenth of all; bins are
told by the upper bits of the weights, so nothing is sorted. docs/packs.md has the exact definition.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s3router.packs.coding import bits_of_units, reduce_units
from s3router.packs.description import Malformed, MaskEntry

KEYS = 1 << 15
"""Magnitudes are told apart by the upper 16 bits of their float32, of which the sign's is 0."""
ESCAPE = 255
_FEW = 16  # bins
_CANDIDATES = 128  # places where an edge may lie: so many equal parts of all weights, and of the removed ones
_BLOCK, _APART = 1000, 1.2  # bytes that a Huffman table is worth; how far apart shares may be that have one together
_EDGE_BITS = 160  # what one more bin takes in the file: three numbers in JSON
_EDGE_SHARE = 0.0015  # and what it has to save besides, of the whole: each takes time to read


@dataclass(frozen=True)
class _Run:
    """The symbols of one bin of one matrix, in order of position.

    Attributes:
        size: how many.
        removed: of them.
        escapes: bytes of `ESCAPE` among its gaps.
    """

    size: int
    removed: int
    escapes: int

    @property
    def few(self) -> int:
        """How many symbols are of the rarer kind."""
        return min(self.removed, self.size - self.removed)

    @property
    def sparse(self) -> bool:
        """Whether its gaps are kept; else a bit for each symbol."""
        return 4 * self.few <= self.size

    @property
    def nbytes(self) -> int:
        """Before they are Huffman-coded."""
        return self.few + self.escapes if self.sparse else -(-self.size // 8)

    @property
    def order(self) -> int:
        """Runs of like shares stand together, so that they share a Huffman table."""
        return (self.few << 16) // max(self.size, 1)


def encode(
    masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Code masks {name: bool (rows, columns)} relative to `weights` {name: (rows, columns)}.

    Returns:
        name -> {"unit", "edges", "runs"} for the description, and the streams ``gaps`` and ``flags``, uint8 (bytes,).
    """

    def one(name: str) -> tuple[dict[str, Any], list[tuple[_Run, np.ndarray]]]:
        removed = (~masks[name]).cpu().numpy()
        unit, symbols = reduce_units(removed)
        edges, parts = [], [symbols]
        if unit == "weight":
            keys = _keys(weights[name])
            edges = _choose_edges(symbols, keys)
            if edges:
                bins = _bins(keys, edges)
                parts = [symbols[bins == number] for number in range(len(edges) + 1)]
        runs = [_coded(part) for part in parts]
        return {"unit": unit, "edges": edges, "runs": [[run.removed, run.escapes] for run, _ in runs]}, runs

    found = dict(zip(masks, _side_by_side(one, masks), strict=True))
    every = sorted((coded for _, runs in found.values() for coded in runs), key=lambda coded: coded[0].order)
    streams = {
        "gaps": _deflate((run, content) for run, content in every if run.sparse),
        "flags": _deflate((run, content) for run, content in every if not run.sparse),
    }
    return {name: coding for name, (coding, _) in found.items()}, streams


def decode(
    entries: Mapping[str, MaskEntry], streams: Mapping[str, np.ndarray], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, np.ndarray]]:
    """The masks in order, as bits (`s3router.packs.bits`); the other way of `encode`.

    Shapes have been held against `weights`.

    Raises:
        Malformed: settings or code that no encoder makes.
    """
    for name, entry in entries.items():
        _check(name, entry)

    def binned(name: str) -> tuple[np.ndarray | None, list[_Run]]:
        coding, (rows, columns) = entries[name].coding, entries[name].shape
        bins, sizes = None, [{"weight": rows * columns, "row": rows, "column": columns}[coding["unit"]]]
        if coding["edges"]:
            bins = _bins(_keys(weights[name]), coding["edges"])
            sizes = _sizes(bins, len(coding["edges"]) + 1)
        runs = [_Run(size, *pair) for size, pair in zip(sizes, coding["runs"], strict=True)]
        if any(run.removed > run.size or (run.escapes and not run.sparse) for run in runs):
            raise Malformed(f"mask {name!r}: more symbols than weights")
        return bins, runs

    found = dict(zip(entries, _side_by_side(binned, entries), strict=True))
    ordered = sorted(
        ((run, name, number) for name, (_, runs) in found.items() for number, run in enumerate(runs)),
        key=lambda item: item[0].order,
    )
    contents: dict[tuple[str, int], np.ndarray] = {}
    for kind, sparse in (("gaps", True), ("flags", False)):
        here = [item for item in ordered if item[0].sparse == sparse]
        whole, start = _inflate(kind, streams[kind], sum(run.nbytes for run, _, _ in here)), 0
        for run, name, number in here:
            contents[name, number] = whole[start : start + run.nbytes]
            start += run.nbytes

    def one(name: str) -> np.ndarray:
        (bins, runs), entry = found[name], entries[name]
        keep = np.ones(sum(run.size for run in runs), np.bool_)
        for number, run in enumerate(runs):
            places = None if bins is None or not run.removed else np.flatnonzero(bins == number)
            _place(name, keep, places, run, contents[name, number])
        return bits_of_units(keep, entry.coding["unit"], entry.shape)

    yield from zip(entries, _side_by_side(one, entries), strict=True)


def _side_by_side(work: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    """Results in order; numpy and zlib let other threads run meanwhile."""
    if torch.get_num_threads() == 1:
        return [work(name) for name in names]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(work, names))


def _keys(weight: Tensor) -> np.ndarray:
    """The upper 16 bits of the magnitudes as float32, uint16 (weights,)."""
    values = weight.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy().reshape(-1)
    return values.astype("<f4", copy=False).view("<u2")[1::2] & np.uint16(KEYS - 1)


def _bins(keys: np.ndarray, edges: list[int]) -> np.ndarray:
    """The number of edges that each key reaches, uint8 or uint16."""
    if len(edges) <= _FEW:  # compared with each, which is faster than looking them up
        bins = np.zeros(len(keys), np.uint8)
        for edge in edges:
            np.add(bins, (keys >= edge).view(np.uint8), out=bins)
        return bins
    table = np.searchsorted(np.array(edges), np.arange(KEYS), side="right")
    return np.take(table.astype(np.uint8 if len(edges) < 256 else np.uint16), keys)


def _sizes(bins: np.ndarray, count: int) -> list[int]:
    """How many there are of each of `count` bins."""
    if count <= _FEW:
        return [int(np.count_nonzero(bins == number)) for number in range(count)]
    return np.bincount(bins, minlength=count).tolist()


def _coded(removed: np.ndarray) -> tuple[_Run, np.ndarray]:
    """A run and its bytes."""
    count = int(np.count_nonzero(removed))
    run = _Run(len(removed), count, 0)
    if not run.sparse:
        return run, np.packbits(removed, bitorder="little")
    ranks = np.flatnonzero(removed if 2 * count <= len(removed) else ~removed)
    gaps = np.diff(ranks, prepend=-1) - 1
    longer = gaps // ESCAPE
    if escapes := int(longer.sum()):
        content = np.full(len(gaps) + escapes, ESCAPE, np.uint8)
        content[np.cumsum(longer + 1) - 1] = gaps % ESCAPE
        return _Run(len(removed), count, escapes), content
    return run, gaps.astype(np.uint8)


def _place(name: str, keep: np.ndarray, places: np.ndarray | None, run: _Run, content: np.ndarray) -> None:
    """Take the removed symbols of a run out of `keep`; `places`: where its symbols are, None: everywhere."""
    if not run.removed:
        return
    everywhere = slice(None) if places is None else places
    if not run.sparse:
        keep[everywhere] = np.unpackbits(content, count=run.size, bitorder="little") == 0
        return
    ends = np.cumsum(content, dtype=np.int64)
    if run.escapes:
        ends = ends[content != ESCAPE]
    if len(ends) != run.few or (run.escapes and content[-1] == ESCAPE):
        raise Malformed(f"mask {name!r}: its gaps are damaged")
    ranks = ends + np.arange(run.few)
    if run.few and ranks[-1] >= run.size:
        raise Malformed(f"mask {name!r}: its gaps reach past the last weight")
    found = ranks if places is None else places[ranks]
    if 2 * run.removed <= run.size:
        keep[found] = False
    else:
        keep[everywhere] = False
        keep[found] = True


def _deflate(coded: Iterable[tuple[_Run, np.ndarray]]) -> np.ndarray:
    """One stream; shares that are too far apart for a common Huffman table get one each."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    stream, first, count = bytearray(), 0, 0
    for run, content in coded:
        if count >= _BLOCK and run.order > _APART * first:
            stream += coder.flush(zlib.Z_PARTIAL_FLUSH)
            count = 0
        first, count = (run.order, len(content)) if not count else (first, count + len(content))
        stream += coder.compress(content.tobytes())
    return np.frombuffer(bytes(stream + coder.flush()), np.uint8)


def _inflate(kind: str, stream: np.ndarray, size: int) -> np.ndarray:
    """Exactly `size` bytes, uint8."""
    decoder = zlib.decompressobj(-15)
    try:
        content = decoder.decompress(stream.tobytes(), size + 1)
    except zlib.error as error:
        raise Malformed(f"{kind}: no code ({error})") from None
    if len(content) != size or not decoder.eof or decoder.unused_data or decoder.unconsumed_tail:
        raise Malformed(f"{kind}: {len(content):,} bytes or more, and not {size:,}")
    return np.frombuffer(content, np.uint8)


def _choose_edges(removed: np.ndarray, keys: np.ndarray) -> list[int]:
    """The edges with which bits and edges together are fewest, by dynamic programming, as `s3router.packs.coding`."""
    total = np.bincount(keys, minlength=KEYS).cumsum()
    gone = np.bincount(keys[removed], minlength=KEYS).cumsum()
    parts = np.arange(1, _CANDIDATES)
    places = [np.searchsorted(sums, parts * sums[-1] // _CANDIDATES, side="right") for sums in (total, gone)]
    edges = np.unique(np.concatenate(places))
    edges = edges[(edges > 0) & (edges < KEYS)]
    total, gone = (np.concatenate([[0], sums[edges - 1], sums[-1:]]) for sums in (total, gone))
    price = _EDGE_BITS + _EDGE_SHARE * float(_cost(total[-1], gone[-1]))
    best, cut = np.zeros(len(total)), np.zeros(len(total), int)
    for end in range(1, len(total)):
        costs = best[:end] + _cost(total[end] - total[:end], gone[end] - gone[:end])
        cut[end] = costs.argmin()
        best[end] = costs[cut[end]] + price
    chosen, place = [], int(cut[-1])
    while place:
        chosen.append(int(edges[place - 1]))
        place = int(cut[place])
    return chosen[::-1]


def _cost(total: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Bits of runs of `total` symbols of which `gone` are removed, by their entropy."""
    share = np.clip(gone / np.maximum(total, 1), 1e-6, 1 - 1e-6)
    return -gone * np.log2(share) - (total - gone) * np.log2(1 - share)


def _check(name: str, entry: MaskEntry) -> None:
    coding = entry.coding
    if coding.keys() != {"unit", "edges", "runs"} or coding["unit"] not in ("weight", "row", "column"):
        raise Malformed(f"mask {name!r}: its coding is not of this format")
    edges, runs = coding["edges"], coding["runs"]
    whole = isinstance(edges, list) and all(type(edge) is int and 0 < edge < KEYS for edge in edges)
    if not whole or any(a >= b for a, b in itertools.pairwise(edges)):
        raise Malformed(f"mask {name!r}: its magnitude bins are damaged")
    pairs = isinstance(runs, list) and len(runs) == len(edges) + 1 and (not edges or coding["unit"] == "weight")
    limit = entry.count
    if not pairs or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and 0 <= n <= limit for n in pair)
        for pair in runs
    ):
        raise Malformed(f"mask {name!r}: its runs are damaged")
