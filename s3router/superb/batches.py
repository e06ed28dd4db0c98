"""Datasets in the form that s3prl's Tasks take, and batches of them in an order that a resumed run repeats."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.superb.labels import LabelledDir
from s3router.upstreams.s3prl_engine import load


class Clips(Dataset):
    """(epoch, index) -> the item of s3prl's dataset for that utterance.

    Args:
        labelled: the utterances, in its order.
        target: utterance -> what the Task takes besides the waveform.
        gain_db: gain applied to the waveform.
        max_seconds: crop longer ones, at a place that seed, epoch and index decide; None: never.
        seed: seed of the crops.
        trim: (samples,) -> (samples,), applied before the crop.
    """

    def __init__(
        self,
        labelled: LabelledDir,
        target: Callable[[str], dict[str, Any]],
        gain_db: float = 0.0,
        max_seconds: float | None = None,
        seed: int = 0,
        trim: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.labelled, self.utts, self.target, self.trim = labelled, labelled.data.utts, target, trim
        self.gain, self.max_seconds, self.seed = np.float32(10 ** (gain_db / 20)), max_seconds, seed

    def __len__(self) -> int:
        return len(self.utts)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        wav = read_audio(self.utts[index].source, SAMPLE_RATE) * self.gain
        if self.trim is not None:
            wav = self.trim(wav)
        if self.max_seconds is not None and len(wav) > (limit := round(self.max_seconds * SAMPLE_RATE)):
            start = random.Random(f"{self.seed} {epoch} {index}").randrange(len(wav) - limit + 1)
            wav = wav[start : start + limit]
        return self.item(index, torch.from_numpy(wav), len(wav))

    def item(self, index: int, x: torch.Tensor, x_len: int) -> dict:
        """What s3prl's Task takes for utterance number ``index``."""
        utt = self.utts[index].utt
        return {"x": x, "x_len": x_len, "unique_name": utt, **self.target(utt)}


class Stretches(Dataset):
    """(epoch, index) -> the item of s3prl's dataset for a stretch of a recording; whole frames only.

    Args:
        labelled: the recordings.
        target: (recording, first frame, frame after the last) -> float32 (frames, speakers).
        stride: samples per frame.
        max_seconds: longer recordings are several stretches; None: each is one.
        least: samples of the shortest stretch that gives a frame: what is left at the end and shorter belongs to the
            stretch before it.
        gain_db: gain applied to the waveform.
    """

    def __init__(
        self,
        labelled: LabelledDir,
        target: Callable[[str, int, int], np.ndarray],
        stride: int,
        max_seconds: float | None = None,
        gain_db: float = 0.0,
        least: int = 1,
    ):
        self.target, self.stride, self.gain = target, stride, np.float32(10 ** (gain_db / 20))
        self.spans, self.utts = [], []
        for utt in labelled.data.utts:
            total = max(round(utt.duration * SAMPLE_RATE) // stride, 1)
            step = total if max_seconds is None else max(int(max_seconds * SAMPLE_RATE) // stride, 1)
            starts = list(range(0, total, step))
            if len(starts) > 1 and (total - starts[-1]) * stride < least:
                starts.pop()
            for number, (first, last) in enumerate(itertools.pairwise([*starts, total])):
                self.spans.append((number, first, last))
                self.utts.append(replace(utt, duration=(last - first) * stride / SAMPLE_RATE))

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        utt, (number, first, last) = self.utts[key[1]], self.spans[key[1]]
        wav = read_audio(utt.source, SAMPLE_RATE)[first * self.stride : last * self.stride] * self.gain
        label = torch.from_numpy(self.target(utt.utt, first, last))
        item = {"x": torch.from_numpy(wav), "x_len": len(wav), "label": label, "label_len": last - first}
        return {**item, "record_id": utt.utt, "chunk_id": number, "unique_name": utt.utt}


def collate(items: list[dict]) -> dict:
    """Pad and stack with s3prl's own function: x float32 (B, samples), x_len int64 (B,), and the targets."""
    return load("s3prl.dataio.collate_fn").default_collate_fn(items)


class TrainingBatches:
    """Batches without end; the n-th of them is the same in every run.

    Args:
        clips: the dataset.
        sampler: one of s3prl's; an epoch has as many batches as it gives.
        rank, world: this process takes every ``world``-th utterance of each batch. A batch that is too small for all
            lends its first utterance to the rest, with no weight in the loss.
        num_workers: processes that read audio; 0: this one.
    """

    def __init__(self, clips: Dataset, sampler: Any, rank: int = 0, world: int = 1, num_workers: int = 0):
        self.clips, self.sampler, self.rank, self.world, self.num_workers = clips, sampler, rank, world, num_workers
        self.per_epoch = len(sampler)

    def starting_at(self, batch: int) -> Iterator[tuple[dict, float]]:
        """(batch, its weight) from number ``batch`` on; the ranks' weighted losses average to the whole batch's."""
        epoch, skip = divmod(batch, self.per_epoch)
        while True:
            self.sampler.set_epoch(epoch)
            whole = list(self.sampler)[skip:]
            parts = [[(epoch, index) for index in (ids[self.rank :: self.world] or ids[:1])] for ids in whole]
            weights = [len(ids[self.rank :: self.world]) * self.world / len(ids) for ids in whole]
            loader = DataLoader(self.clips, batch_sampler=parts, num_workers=self.num_workers, collate_fn=collate)
            yield from zip(loader, weights, strict=True)
            epoch, skip = epoch + 1, 0


def in_order(clips: Dataset, batch_size: int, rank: int = 0, world: int = 1, num_workers: int = 0) -> DataLoader:
    """Every utterance once, neighbours in length together, for validation and prediction; this rank's share."""
    by_length = sorted(range(len(clips)), key=lambda i: (clips.utts[i].duration or 0.0, i))[rank::world]
    parts = [[(0, i) for i in by_length[k : k + batch_size]] for k in range(0, len(by_length), batch_size)]
    return DataLoader(clips, batch_sampler=parts, num_workers=num_workers, collate_fn=collate)


def to_device(batch: dict, device: str) -> dict:
    """The batch with its tensors on ``device``."""
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
