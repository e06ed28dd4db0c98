"""Masks as bits: row after row, eight weights per byte, the first one in the lowest bit; 1 = kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def pack_bits(mask: Tensor) -> np.ndarray:
    """Bool mask of any shape -> uint8 (⌈weights / 8⌉,); unused bits of the last byte are 0."""
    return np.packbits(mask.detach().cpu().contiguous().numpy().reshape(-1), bitorder="little")


def unpack_bits(bits: np.ndarray, shape: Sequence[int]) -> Tensor:
    """uint8 (⌈weights / 8⌉,) -> new bool mask of `shape`. The inverse of `pack_bits`."""
    count = int(np.prod(shape, dtype=np.int64))
    flat = np.unpackbits(bits, count=count, bitorder="little")
    return torch.from_numpy(flat.view(np.bool_).reshape(tuple(shape)))


class BitMasks(Mapping[str, Tensor]):
    """Masks by name, kept at one bit per weight: each look-up makes a new bool mask.

    Args:
        bits: name -> uint8 (⌈weights / 8⌉,), as `pack_bits` gives them; arrays may be read-only.
        shapes: name -> shape of the mask.
    """

    def __init__(self, bits: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]):
        self.bits = dict(bits)
        self.shapes = {name: tuple(shapes[name]) for name in bits}

    @classmethod
    def of(cls, masks: Mapping[str, Tensor]) -> BitMasks:
        """Bool masks of any shape as bits; what is bits already is handed back."""
        if isinstance(masks, cls):
            return masks
        bits = {name: pack_bits(mask) for name, mask in masks.items()}
        return cls(bits, {name: tuple(mask.shape) for name, mask in masks.items()})

    def __getitem__(self, name: str) -> Tensor:
        return unpack_bits(self.bits[name], self.shapes[name])

    def __contains__(self, name: object) -> bool:
        return name in self.bits

    def __iter__(self) -> Iterator[str]:
        return iter(self.bits)

    def __len__(self) -> int:
        return len(self.bits)

    def removed(self, name: str) -> int:
        """How many weights a mask removes."""
        return math.prod(self.shapes[name]) - int(np.bitwise_count(self.bits[name]).sum(dtype=np.int64))

    def digest(self) -> str:
        """`masks_digest` of them in their order; they are matrices."""
        return masks_digest((name, shape, self.bits[name]) for name, shape in self.shapes.items())


def padding_is_zero(bits: np.ndarray, count: int) -> bool:
    """Whether the bits behind the last of `count` weights are 0."""
    return count % 8 == 0 or int(bits[-1]) >> (count % 8) == 0


def masks_digest(masks: Iterable[tuple[str, Sequence[int], np.ndarray]]) -> str:
    """BLAKE2b (32 bytes, hexadecimal) over the names, shapes and bits of (name, shape, bits) in their order."""
    total = hashlib.blake2b(digest_size=32)
    for name, (rows, columns), bits in masks:
        total.update(f"{name} {rows} {columns}\n".encode())
        total.update(bits)
    return total.hexdigest()
