"""Utterances of a Kaldi data directory as training examples: waveforms, prompts and tokens."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from s3router.data.audio import SAMPLE_RATE, Seconds, read_audio
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import DataError
from s3router.seq2seq.generate import window_features
from s3router.seq2seq.windows import STEP, window_of
from s3router.upstreams.whisper import WINDOW_SECONDS

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)

IGNORED = -100  # labels that give no loss, in torch's and transformers' convention
MEGABATCH = 4  # batches within which utterances are sorted by their windows
SLACK = 1.25  # speech may be so much faster than the fastest training utterance


def encode(recogniser: Recogniser, text: str) -> list[int]:
    """Token ids of a transcript; like Whisper's own texts, it begins with a blank.

    Where no token has the blank and the first letter (``ẹ``, ``ɔ``, ``大``), the blank would be a token of its own. No
    decoder of Whisper begins a text with it (``begin_suppress_tokens``), so it is left out.
    """
    ids = recogniser.tokenizer.encode(f" {text}", add_special_tokens=False)
    return ids[1:] if ids[:1] == recogniser.tokenizer.encode(" ", add_special_tokens=False) else ids


def read_utterances(path: str, recogniser: Recogniser, prompt: Sequence[int]) -> tuple[list[Utterance], list[str]]:
    """The utterances that fit a window and the decoder, with durations; and the problems of those that do not.

    Raises:
        DataError: no data directory, or nothing in it fits.
    """
    data = DataDir.read(path).with_durations()
    room = recogniser.model.config.max_target_positions - len(prompt) - 1
    kept, problems = [], []
    for utt in data.utts:
        count = len(encode(recogniser, utt.text))
        if utt.duration > WINDOW_SECONDS:
            problems.append(f"{utt.utt}: {utt.duration:.1f} s, longer than Whisper's window of {WINDOW_SECONDS} s")
        elif count > room:
            problems.append(f"{utt.utt}: {count} tokens, of which the decoder takes {room}")
        else:
            kept.append(utt)
    if not kept:
        raise DataError(summary(data.path, problems or ["no utterances"]))
    return kept, problems


def never_written(recogniser: Recogniser, utts: Sequence[Utterance]) -> dict[str, int]:
    """What transcripts hold and no decoder of Whisper writes (``suppress_tokens``) -> how many transcripts hold it."""
    barred = set(recogniser.model.generation_config.suppress_tokens or ())
    found = Counter(token for utt in utts for token in barred.intersection(encode(recogniser, utt.text)))
    return {recogniser.tokenizer.decode([token]).strip(): count for token, count in found.most_common()}


def tokens_per_second(recogniser: Recogniser, utts: Sequence[Utterance]) -> float:
    """The rate at which decoding is cut off (`s3router.seq2seq.generate.token_limit`), from training utterances."""
    rates = [len(encode(recogniser, utt.text)) / max(utt.duration, 1.0) for utt in utts]
    return math.ceil(10 * SLACK * max(rates)) / 10


def digest(utts: Sequence[Utterance]) -> str:
    """Of ids, transcripts and lengths, in their order; where the recordings lie does not count."""
    lines = (f"{utt.utt} {round(utt.duration * SAMPLE_RATE)} {' '.join(utt.text.split())}\n" for utt in utts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Examples(Dataset):
    """Training examples.

    Args:
        prompt: what the decoder is given first.
        step: of the windows' lengths (`s3router.seq2seq.windows`).
    """

    def __init__(self, utts: Sequence[Utterance], recogniser: Recogniser, prompt: Sequence[int], step: Seconds = STEP):
        self.utts, self.recogniser, self.prompt, self.step = list(utts), recogniser, list(prompt), step

    def __len__(self) -> int:
        return len(self.utts)

    def __getitem__(self, index: int) -> tuple[Tensor, list[int]]:
        """Waveform (samples,), float32, and token ids."""
        utt = self.utts[index]
        wave = torch.from_numpy(read_audio(utt.source, SAMPLE_RATE))
        return wave[: WINDOW_SECONDS * SAMPLE_RATE], encode(self.recogniser, utt.text)

    @property
    def windows(self) -> list[int]:
        """Samples of each one's window."""
        return [window_of(round(utt.duration * SAMPLE_RATE), self.step) for utt in self.utts]

    def batch(self, examples: Sequence[tuple[Tensor, list[int]]]) -> dict[str, Any]:
        """The arguments of the model's ``forward``; all have the longest one's window. The prompt gives no loss."""
        waves, texts = zip(*examples, strict=True)
        window = max(window_of(len(wave), self.step) for wave in waves)
        features = window_features(self.recogniser, waves, window)
        end = self.recogniser.model.config.eos_token_id
        longest = max(len(text) for text in texts)
        inputs, labels = [], []
        for text in texts:
            lacking = longest - len(text)
            inputs.append([*self.prompt, *text, *[end] * lacking])
            labels.append([*[IGNORED] * (len(self.prompt) - 1), *text, end, *[IGNORED] * lacking])
        return {
            "input_features": features,
            "decoder_input_ids": torch.tensor(inputs),
            "labels": torch.tensor(labels),
        }


class WindowSampler(Sampler[int]):
    """A shuffled order in which neighbours have similar windows; each epoch has its own, the same in every run.

    Args:
        windows: lengths, in any unit.
        batch_size: utterances of a batch.
        seed: of the order.
    """

    def __init__(self, windows: Sequence[float], batch_size: int, seed: int):
        self.windows, self.batch_size, self.seed, self.epoch = list(windows), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.windows)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer."""
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.windows), generator=generator).tolist()
        size = MEGABATCH * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            part = sorted(order[start : start + size], key=lambda index: -self.windows[index])
            batches += [part[at : at + self.batch_size] for at in range(0, len(part), self.batch_size)]
        short = [batch for batch in batches if len(batch) < self.batch_size]  # only the last one may be smaller
        batches = [batch for batch in batches if len(batch) == self.batch_size]
        for at in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[at]
        for batch in short:
            yield from batch
