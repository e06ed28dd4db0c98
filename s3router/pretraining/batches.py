"""Batches of a pretraining: recordings of about equal length, their targets, and the spans that are masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from s3router.data.audio import SAMPLE_RATE
from s3router.pretraining.settings import Training
from s3router.pretraining.speech import HOP, SPAN, Item, Samples, normalized

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""waves float32 (batch, samples); targets int64 (batch, frames, heads); mask bool (batch, frames)."""


def span_mask(shape: tuple[int, int], start: float, length: int, rng: np.random.Generator) -> torch.Tensor:
    """Spans of ``length`` frames, each frame the start of one with probability ``start``; at least one per row."""
    starts = rng.random(shape) < start
    for row in starts:
        if not row.any():
            row[rng.integers(len(row))] = True
    mask = np.zeros(shape, dtype=bool)
    for shift in range(length):
        mask[:, shift:] |= starts[:, : shape[1] - shift]
    mask[mask.all(axis=1), 0] = False
    return torch.from_numpy(mask)


class Batches:
    """Endless batches of about equal length, cropped to the shortest: no padding, no attention mask.

    Args:
        speech: recordings.
        targets: item -> int16 (frames, heads).
        training: settings.
        frames: samples -> frames.
        seed: of the draws.
        synthetic: utterances of which each epoch takes a share.
    """

    def __init__(
        self,
        speech: Samples,
        targets: dict[Item, np.ndarray],
        training: Training,
        frames: Callable[[int], int],
        seed: int,
        synthetic: Iterable[str] = (),
    ):
        self.speech, self.targets, self.training, self.frames = speech, targets, training, frames
        self.synthetic = sorted(synthetic)
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.epoch(self.training.speeds)

    def epoch(self, speeds: Sequence[float]) -> Iterator[Batch]:
        """Every recording once, at one of the speeds."""
        limit = int(self.training.max_seconds * SAMPLE_RATE)
        real = sorted({u for u, _ in self.speech}.difference(self.synthetic))
        chosen = [(utt, speeds[self.rng.integers(len(speeds))]) for utt in real]
        if self.synthetic:
            share = self.training.synthetic_share
            count = min(len(self.synthetic), round(len(real) * share / (1 - share)))
            chosen += [(utt, 1.0) for utt in self.rng.choice(self.synthetic, count, replace=False).tolist()]
        size = {item: min(len(self.speech[item]), limit) for item in chosen}
        chosen.sort(key=lambda item: size[item] * self.rng.uniform(0.9, 1.1))
        batches, batch = [], []
        for item in chosen:
            if batch and (len(batch) + 1) * size[item] > self.training.batch_seconds * SAMPLE_RATE:
                batches.append(batch)
                batch = []
            batch.append(item)
        batches.append(batch)
        for index in self.rng.permutation(len(batches)):
            yield self.assemble(batches[index], min(size[item] for item in batches[index]))

    def assemble(self, items: Sequence[Item], samples: int) -> Batch:
        """The items, each cropped at random to ``samples``."""
        frames = self.frames(samples)
        samples = (frames - 1) * HOP + SPAN
        waves, targets = [], []
        for item in items:
            first = self.rng.integers(len(self.targets[item]) - frames + 1)
            wave = self.speech[item][first * HOP : first * HOP + samples]
            waves.append(normalized(wave))
            targets.append(torch.from_numpy(self.targets[item][first : first + frames].astype(np.int64)))
        mask = span_mask((len(items), frames), self.training.mask_start, self.training.mask_length, self.rng)
        return torch.stack(waves), torch.stack(targets), mask
