"""Masks as packed bits, and masked weights made from them as fast as memory allows."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from s3router.packs.bits import pack_bits

# On a CPU, each thread goes through weights in blocks of this many, which stay in cache.
_BLOCK = 1 << 17
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes


def pack_mask(mask: Tensor) -> Tensor:
    """Bool mask of any shape, True = kept -> uint8 (⌈weights / 8⌉,): `s3router.packs.bits`, as a tensor on the CPU."""
    return torch.from_numpy(pack_bits(mask))


@torch.no_grad()
def write_masked(weight: Tensor, bits: Tensor, out: Tensor) -> None:
    """``out = weight where the mask keeps it, else 0``, in the dtype of `out`, on the device of both.

    The same values as `s3router.masks` gives, bit by bit.

    Args:
        weight: any shape, floating point.
        bits: the packed mask (`pack_mask`), on the device of `weight`.
        out: contiguous, the shape of `weight`; 16, 32 or 64 bits per value.
    """
    weight = weight.detach()
    if weight.device.type == "cpu":
        _write_blocks(weight.contiguous().view(-1), bits, out.view(-1))
    else:
        places = torch.arange(8, dtype=torch.uint8, device=bits.device)
        keep = ((bits[:, None] >> places) & 1).view(-1)[: weight.numel()].view(weight.shape).bool()
        out.copy_(weight).masked_fill_(~keep, 0)


def _write_blocks(weight: Tensor, bits: Tensor, out: Tensor) -> None:
    """All flat. A float and'ed with as many ones or zeros as it has bits is itself or +0: no branches, no sums."""
    converted = weight.dtype != out.dtype
    even = weight.numel() % 8 == 0 and weight.storage_offset() * weight.element_size() % 8 == 0
    width = 8 if even else out.element_size()  # bytes that are and'ed at a time
    each = width // out.element_size()  # weights in them
    target = out.view(_INTEGERS[width])
    source = target if converted else weight.view(_INTEGERS[width])
    keys = _keys(out.element_size()).view(target.dtype)
    block = _BLOCK * torch.get_num_threads()
    buffer = keys.new_empty(block // 8, keys.shape[1])
    for start in range(0, weight.numel(), block):
        stop = min(start + block, weight.numel())
        if converted:
            out[start:stop].copy_(weight[start:stop])
        part = bits[start // 8 : (stop + 7) // 8].int()  # torch takes no bytes as indices
        chosen = torch.index_select(keys, 0, part, out=buffer[: len(part)]).view(-1)
        here = slice(start // each, stop // each)
        torch.bitwise_and(source[here], chosen[: here.stop - here.start], out=target[here])


@cache
def _keys(size: int) -> Tensor:
    """(256, 8): for each byte of a mask eight integers of `size` bytes, -1 (all ones) where the weight is kept."""
    kept = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(-kept.astype(f"i{size}"))
