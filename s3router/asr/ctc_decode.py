"""CTC decoding of many recordings in one pass: chunks, length-sorted batches, emissions, greedy and beam search.

Works with every model that has ESPnet's two entry points, ``model.encode(speech, lengths)`` and
``model.ctc.log_softmax(encoded)``. Needs torch and numpy; beam search is in `s3router.asr.lm`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.threads import read_ahead
from s3router.errors import ConfigError


@dataclass(frozen=True)
class BatchOptions:
    """How recordings are cut and put together.

    Attributes:
        batch_seconds: padded length of a batch at most (a single longer piece is a batch of its own).
        max_seconds: longer recordings are decoded in chunks of this length.
        overlap_seconds: what neighbouring chunks share; each gives its inner half, where context is on both sides.
        bf16: run the model under bfloat16 autocast; emissions are float32 either way.
    """

    batch_seconds: Seconds = 80.0
    max_seconds: Seconds = 30.0
    overlap_seconds: Seconds = 4.0
    bf16: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not self.batch_seconds >= 0:
            problems.append(f"batch seconds {self.batch_seconds} is below 0 (0 decodes one by one)")
        if not 0.1 <= self.max_seconds < math.inf:  # some frames of every upstream
            problems.append(f"max seconds {self.max_seconds} is not a number from 0.1 on")
        if not 0 <= self.overlap_seconds <= self.max_seconds / 2:
            problems.append(f"overlap seconds {self.overlap_seconds} is not between 0 and half of max seconds")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True)
class Chunk:
    """Samples `start` to `stop` of a recording; frames centred in `keep_from` to `keep_to` are used."""

    start: int
    stop: int
    keep_from: float
    keep_to: float


def cut(samples: int, size: int, overlap: int) -> list[Chunk]:
    """Chunks that cover `samples` samples, all of `size` where the recording is longer than that.

    Neighbours share at least `overlap` samples; the last chunk is moved forward to end with the recording, so that
    none is short. What is kept of the chunks tiles the recording: the border is the middle of the overlap.
    """
    if samples <= size:
        return [Chunk(0, samples, float("-inf"), float("inf"))]
    count = -(-(samples - overlap) // (size - overlap))
    starts = [min(k * (size - overlap), samples - size) for k in range(count)]
    borders = [float("-inf")] + [(a + size + b) / 2 for a, b in itertools.pairwise(starts)] + [float("inf")]
    return [Chunk(s, s + size, borders[k], borders[k + 1]) for k, s in enumerate(starts)]


def plan_batches(lengths: Sequence[float], limit: float) -> list[list[int]]:
    """Indices of `lengths` in batches, longest first, with (number × longest) at most `limit`; order is stable."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= limit:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def collapse(frames: Sequence[int], blank: int = 0) -> list[int]:
    """The CTC rule: merge repeats, then drop blanks. `frames` holds one token id per frame."""
    return [token for token, _ in itertools.groupby(frames) if token != blank]


class Search(Protocol):
    """From emissions to tokens, in two steps, so that little is kept of recordings that are decoded in chunks."""

    def reduce(self, log_probs: Tensor) -> Tensor:
        """(batch, frames, tokens) log probabilities -> (batch, frames, …): what is kept of every frame."""

    def finish(self, frames: Tensor) -> list[int]:
        """The kept frames of one recording (frames, …), on the CPU -> token ids."""

    def confidence(self, frames: Tensor) -> float | None:
        """The same -> the log probability of the tokens, per token; None where the search does not tell."""


class GreedySearch:
    """The most probable token of every frame, collapsed."""

    def reduce(self, log_probs: Tensor) -> Tensor:
        return best_tokens(log_probs)

    def finish(self, frames: Tensor) -> list[int]:
        return best_path(frames)[0]

    def confidence(self, frames: Tensor) -> float | None:
        return best_path(frames)[1]


def best_tokens(log_probs: Tensor) -> Tensor:
    """(…, tokens) -> (…, 2), float32: the best token's id and its log probability."""
    values, ids = log_probs.float().max(-1)
    return torch.stack((ids.float(), values), -1)  # float32 holds every id below 2^24


def best_path(frames: Tensor) -> tuple[list[int], float]:
    """(frames, 2), from `best_tokens` -> token ids, and the path's log probability per token; -inf without any.

    All frames count, blanks included.
    """
    ids, values = frames.unbind(-1)
    tokens = collapse(ids.int().tolist())
    return tokens, float(values.double().sum()) / len(tokens) if tokens else -math.inf


@dataclass(frozen=True)
class Decoded:
    """What was heard in one recording.

    Attributes:
        tokens: what the search finished with.
        frames: the number of CTC frames behind them.
        samples: of the recording.
        chunks: in how many pieces it was decoded.
        confidence: what the search says of it.
    """

    tokens: list[int]
    frames: int
    samples: int
    chunks: int
    confidence: float | None = None


@torch.inference_mode()
def emissions(model: nn.Module, waves: Sequence[np.ndarray], *, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """Log probabilities of a batch.

    Args:
        model: in evaluation mode; the batch goes to the device of its first parameter.
        waves: float32 (samples,) each, 16 kHz.

    Returns:
        float32 (batch, frames, tokens) and the lengths (batch,) in frames.
    """
    device = next(model.parameters()).device
    lengths = torch.tensor([len(wave) for wave in waves], device=device)
    speech = torch.zeros(len(waves), int(lengths.max()), device=device)
    for row, wave in zip(speech, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        encoded, frames = model.encode(speech, lengths)
        if isinstance(encoded, tuple):  # intermediate CTC: (last layer, [(layer, output)])
            encoded = encoded[0]
        log_probs = model.ctc.log_softmax(encoded)
    return log_probs.float(), frames


def decode_many(
    model: nn.Module,
    read: Callable[[int], np.ndarray],
    seconds: Sequence[Seconds],
    search: Search,
    options: BatchOptions,
    *,
    sample_rate: int = SAMPLE_RATE,
) -> Iterator[tuple[int, Decoded]]:
    """Decode recordings in batches of similar length, the longest first.

    The next batch is read while the model works on this one. Recordings longer than ``options.max_seconds`` are read
    one at a time and their chunks batched among themselves.

    Args:
        read: index -> float32 (samples,) at `sample_rate`.
        seconds: length of every recording; decides the batches.

    Yields:
        (index, its result), in the order of decoding.
    """
    size, overlap = round(options.max_seconds * sample_rate), round(options.overlap_seconds * sample_rate)
    long = [[i] for i, length in enumerate(seconds) if length > options.max_seconds]
    short = [i for i, length in enumerate(seconds) if length <= options.max_seconds]
    batches = long + [
        [short[i] for i in batch] for batch in plan_batches([seconds[i] for i in short], options.batch_seconds)
    ]
    for batch, waves in read_ahead(read, batches):
        pieces = [(k, chunk) for k, wave in enumerate(waves) for chunk in cut(len(wave), size, overlap)]
        kept: list[list[Tensor]] = [[] for _ in batch]
        # one batch unless this is a long recording: its chunks may be many
        for group in _groups(pieces, options.batch_seconds * sample_rate):
            inputs = [waves[k][chunk.start : chunk.stop] for k, chunk in group]
            for (k, chunk), frames in zip(group, _reduced(model, inputs, search, options.bf16), strict=True):
                centres = chunk.start + (torch.arange(len(frames)) + 0.5) * (chunk.stop - chunk.start) / len(frames)
                kept[k].append(frames[(centres >= chunk.keep_from) & (centres < chunk.keep_to)])
        for k, index in enumerate(batch):
            frames = torch.cat(kept[k])
            found = search.finish(frames), len(frames), len(waves[k]), len(kept[k])
            yield index, Decoded(*found, search.confidence(frames))


def _groups(pieces: list[tuple[int, Chunk]], limit: float) -> Iterator[list[tuple[int, Chunk]]]:
    """Pieces in their order, as many at a time as fit into `limit` padded samples."""
    group: list[tuple[int, Chunk]] = []
    longest = 0
    for piece in pieces:
        length = piece[1].stop - piece[1].start
        if group and (len(group) + 1) * max(longest, length) > limit:
            yield group
            group, longest = [], 0
        group.append(piece)
        longest = max(longest, length)
    if group:
        yield group


def _reduced(model: nn.Module, waves: list[np.ndarray], search: Search, bf16: bool) -> list[Tensor]:
    """What the search keeps of every frame, one tensor (frames, …) per waveform, on the CPU."""
    log_probs, lengths = emissions(model, waves, bf16=bf16)
    frames = search.reduce(log_probs).cpu()
    return [row[:length] for row, length in zip(frames, lengths.tolist(), strict=True)]
