"""Means over time of a frozen upstream's layers, computed once per utterance instead of once per update.

The benchmark's head of utterance classification is linear up to its mean over time, and so is the weighted sum of
layers. So the mean may as well come first: with the means (layers, width) in place of the frames, s3prl's featurizer
and head, unchanged, give the same logits up to rounding, and training needs neither audio nor upstream any more. It
works where an utterance is the same in every epoch: no crops, no masking, nothing trained in the upstream.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from s3router.data.audio import file_stamp
from s3router.files import replacing
from s3router.superb.batches import Clips, in_order
from s3router.training.checkpoints import read_states

logger = logging.getLogger(__name__)


class PooledClips(Dataset):
    """`Clips` whose ``x`` is (layers, width), with a length of one frame."""

    def __init__(self, clips: Clips, means: Tensor):
        self.labelled, self.utts, self.clips, self.means = clips.labelled, clips.utts, clips, means

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        return self.clips.item(key[1], self.means[key[1]], 1)


def pooled(model: nn.Module, clips: Clips, batch_size: int, folder: Path | None, rank: int, world: int) -> PooledClips:
    """The clips with their means, computed by all processes together, or read from ``folder``.

    Args:
        model: a `s3router.superb.model.BenchmarkModel` on its device.
        batch_size: utterances that go through the upstream at once.
        folder: keeps the means; None: each run computes them anew.
    """
    name = f"{_key(model, clips)}.pt"
    path = None if folder is None else folder / "means" / name
    known = [path is not None and path.is_file()]
    if world > 1:  # the first process decides: all have to compute, or none
        torch.distributed.broadcast_object_list(known)
    if known[0]:
        means = read_states(path)["means"]
    else:
        logger.info("mean over time of every layer, of %d utterances", len(clips))
        means = _means(model, clips, batch_size, rank, world)
        if path is not None and rank == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, "wb") as file:
                torch.save({"means": means}, file)
    return PooledClips(clips, means)


@torch.no_grad()
def _means(model: nn.Module, clips: Clips, batch_size: int, rank: int, world: int) -> Tensor:
    """float32 (utterances, layers, width)."""
    device = next(model.parameters()).device
    found: dict[str, Tensor] = {}
    for batch in in_order(clips, batch_size, rank, world):
        hidden, lengths = model.hidden(batch["x"].to(device), batch["x_len"].to(device))
        layers = torch.stack([_mean(h, n) for h, n in zip(hidden, lengths, strict=True)], dim=1).cpu()
        found.update(zip(map(str, batch["unique_name"]), layers, strict=True))
    if world > 1:
        parts: list = [None] * world
        torch.distributed.all_gather_object(parts, found)
        found = {utt: layers for part in parts for utt, layers in part.items()}
    return torch.stack([found[utt.utt] for utt in clips.utts])


def _mean(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, C) and valid frames (B,) -> (B, C)."""
    valid = torch.arange(hidden.size(1), device=hidden.device) < lengths.to(hidden.device)[:, None]
    return (hidden * valid[:, :, None]).sum(1) / valid.sum(1, keepdim=True)


def _key(model: nn.Module, clips: Clips) -> str:
    """Hash of everything that shapes the means: the upstream, its arithmetic, each utterance's file as it is now."""
    state = hashlib.blake2b(
        f"{model.routed.backbone_fingerprint} {model.autocast} {clips.gain}\n".encode(), digest_size=16
    )
    for utt in clips.utts:
        state.update(f"{utt.source} {file_stamp(utt.source)}\n".encode())
    return state.hexdigest()
