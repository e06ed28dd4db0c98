"""Batches of waveforms and class ids, in the form that s3prl's tasks take, in an order that a resumed run repeats."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.utt2label import BETWEEN
from s3router.superb.labels import LabelledDir
from s3router.upstreams.s3prl_engine import load


class Clips(Dataset):
    """(epoch, index) -> the item of s3prl's dataset of that utterance.

    Args:
        labelled: the utterances, in its order.
        encoder: s3prl's, of one slot or of several.
        gain_db: applied to the waveform.
        max_seconds: crop longer ones, at a place that seed, epoch and index decide; None: never.
        seed: of the crops.
    """

    def __init__(
        self, labelled: LabelledDir, encoder, gain_db: float = 0.0, max_seconds: float | None = None, seed: int = 0
    ):
        self.utts, self.labels = labelled.data.utts, labelled.labels
        self.encoder, self.max_seconds, self.seed = encoder, max_seconds, seed
        self.gain = np.float32(10 ** (gain_db / 20))

    def __len__(self) -> int:
        return len(self.utts)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        wav = self.read(index)
        if self.max_seconds is not None and len(wav) > (limit := round(self.max_seconds * SAMPLE_RATE)):
            start = random.Random(f"{self.seed} {epoch} {index}").randrange(len(wav) - limit + 1)
            wav = wav[start : start + limit]
        return self.item(index, torch.from_numpy(wav), len(wav))

    def read(self, index: int) -> np.ndarray:
        """float32 (samples,) of utterance number ``index``, before it is cropped."""
        return read_audio(self.utts[index].source, SAMPLE_RATE) * self.gain

    def item(self, index: int, x: torch.Tensor, x_len: int) -> dict:
        """What s3prl's task takes of utterance number ``index``."""
        utt = self.utts[index]
        label = self.labels[utt.utt]
        item = {"x": x, "x_len": x_len, "unique_name": utt.utt}
        if len(label) == 1:
            return {**item, "class_id": self.encoder.encode(label[0]), "label": label[0]}
        return {**item, "class_ids": torch.tensor(self.encoder.encode(list(label))), "labels": list(label)}


def collate(items: list[dict]) -> dict:
    """Pad and stack with s3prl's own function: x (B, samples), x_len (B,), class_id (B,) or class_ids (B, slots)."""
    return load("s3prl.dataio.collate_fn").default_collate_fn(items)


class TrainingBatches:
    """Batches without end; the n-th of them is the same in every run.

    Args:
        clips: to draw from (`Clips`, or those of `s3router.superb.pooled`).
        batch_size: of all ranks together.
        balanced: s3prl's sampler that draws every class equally often; else every utterance once an epoch, shuffled.
        seed: of the order.
        rank, world: this process takes every ``world``-th utterance of each batch. A batch that is too small for all
            lends its first utterance to the rest, with no weight in the loss.
        num_workers: processes that read audio; 0: this one.
        sampler: another of s3prl's, whose batches have the size that it gives them.
    """

    def __init__(
        self,
        clips: Dataset,
        batch_size: int,
        balanced: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        sampler=None,
    ):
        self.clips, self.rank, self.world, self.num_workers = clips, rank, world, num_workers
        samplers = load("s3prl.dataio.sampler")
        if sampler is not None:
            self.sampler = sampler
        elif balanced:
            names = [BETWEEN.join(clips.labels[u.utt]) for u in clips.utts]
            self.sampler = samplers.BalancedWeightedSampler(names, batch_size, seed=1_000_003 * seed)
        else:
            self.sampler = samplers.FixedBatchSizeBatchSampler(clips, batch_size, shuffle=True, seed=1_000_003 * seed)
        self.per_epoch = -(-len(clips) // batch_size) if sampler is None else len(sampler)

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
