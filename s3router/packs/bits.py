"""Masks as bits: row after row, eight weights per byte, the first one in the lowest bit; 1 = kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

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
