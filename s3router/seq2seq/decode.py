"""Decoding of Kaldi data directories with a whole recogniser."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from s3router.asr.decode_output import Transcripts, write_output
from s3router.data.audio import SAMPLE_RATE, Seconds, read_audio
from s3router.data.hypotheses import tidy
from s3router.data.kaldi import DataDir, Utterance, summary, too_short
from s3router.data.words import UNSPACED, Word
from s3router.errors import DataError
from s3router.scoring.files import shorten, trn_names
from s3router.seq2seq.generate import Heard, transcribe_batch
from s3router.seq2seq.windows import STEP, cut, window_of
from s3router.seq2seq.word_times import outside_pauses, timed_words
from s3router.upstreams.whisper import FRAME, WINDOW_SECONDS

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)

BATCH_SECONDS: Seconds = 160.0
"""Of windows that are decoded together; each step of the decoder reads all its weights, however many there are."""


@dataclass(frozen=True)
class Listening:
    """How a recogniser listens.

    Attributes:
        language: code of the language token; None for English-only models.
        max_tokens_per_second: see `s3router.seq2seq.generate.token_limit`.
        normalize, text_language: see `s3router.data.hypotheses.tidy`.
        window_step: of the windows' lengths; 30: all windows are of 30 s.
        beam_size: 1: greedy.
        batch_seconds: windows of a batch together, at most (a single one is a batch of its own).
    """

    language: str | None
    max_tokens_per_second: float
    normalize: str = "none"
    text_language: str | None = None
    window_step: Seconds = STEP
    beam_size: int = 1
    batch_seconds: Seconds = BATCH_SECONDS

    @property
    def written_in(self) -> str:
        """Code of the texts' language."""
        return self.text_language or self.language or "en"

    @property
    def spaced(self) -> bool:
        """Whether blanks part the words of that language."""
        return self.written_in not in UNSPACED

    def window(self, wave: Tensor) -> int:
        """Samples of a waveform's window."""
        return window_of(len(wave), self.window_step)

    def transcribe(self, recogniser: Recogniser, waves: Sequence[Tensor], timed: bool = False) -> list[Heard]:
        """`transcribe_batch` of waveforms that have one window."""
        window, rate = max(map(self.window, waves)), self.max_tokens_per_second
        return transcribe_batch(recogniser, waves, self.language, rate, window, self.beam_size, timed)

    def tidy(self, text: str) -> str:
        """A text in the form that is wanted."""
        return tidy(text, self.normalize, self.written_in)

    def words(self, recogniser: Recogniser, wave: Tensor, heard: Heard) -> list[Word]:
        """What was heard in a waveform as words with times, in the form that is wanted; none that is empty then.

        That form is made of each word by itself. Where a rule looks at several of them, joined they are not the text.
        """
        words = timed_words(recogniser.tokenizer, heard.tokens, heard.scores, heard.times, self.spaced)
        tidied = [replace(word, word=self.tidy(word.word)) for word in words]
        return outside_pauses([word for word in tidied if word.word], wave.cpu().numpy())


@dataclass(frozen=True)
class Transcribed:
    """What was heard in one recording: of its pieces, the texts joined and the confidences' mean over the tokens.

    Attributes:
        words: with times, where they were wanted.
    """

    text: str
    confidence: float
    tokens: int
    pieces: int
    limited: bool
    seconds: Seconds
    words: list[Word] | None = None


Turn = Callable[[], AbstractContextManager[Any]]


def listen(
    recogniser: Recogniser,
    utts: Sequence[Utterance],
    how: Listening,
    read: Callable[[int], np.ndarray] | None = None,
    turn: Turn = nullcontext,
    timed: Collection[int] = (),
) -> Iterator[tuple[int, Transcribed]]:
    """Transcribe recordings, the longest windows first.

    A batch has one window, so a result does not depend on what else is in the batch (up to rounding). Recordings
    longer than 30 s are cut where they are quiet.

    Args:
        utts: with durations.
        read: index -> float32 (samples,) at 16 kHz; by default what the utterance names.
        turn: makes the context in which a batch goes through the model, such as a route's.
        timed: indices of recordings whose words are wanted with times; others of their batches may have them, too.

    Yields:
        (index, what was heard), in the order of decoding.

    Raises:
        DataError: a recording cannot be read.
        ConfigError: an unknown language.
    """
    order = sorted(range(len(utts)), key=lambda index: -utts[index].duration)
    device = next(recogniser.model.parameters()).device
    waiting: list[tuple[int, Tensor]] = []

    def transcribed(waves: list[Tensor], timed: bool) -> list[_Piece]:
        with turn():
            found = how.transcribe(recogniser, waves, timed)
        return [
            _Piece(len(wave), one, how.words(recogniser, wave, one) if timed else None)
            for wave, one in zip(waves, found, strict=True)
        ]

    def heard(batch: list[tuple[int, Tensor]]) -> Iterator[tuple[int, Transcribed]]:
        indices, waves = zip(*batch, strict=True)
        pieces = transcribed(waves, any(index in timed for index in indices))
        for index, piece in zip(indices, pieces, strict=True):
            yield index, _joined([piece], how)

    for index in order:
        samples = read_audio(utts[index].source, SAMPLE_RATE) if read is None else read(index)
        wave = torch.from_numpy(samples).to(device)
        if len(wave) > WINDOW_SECONDS * SAMPLE_RATE:
            yield index, _joined([transcribed([piece], index in timed)[0] for piece in cut(wave)], how)
            continue
        window = how.window(wave)
        full = (len(waiting) + 1) * window > how.batch_seconds * SAMPLE_RATE
        if waiting and (full or how.window(waiting[0][1]) != window):
            yield from heard(waiting)
            waiting = []
        waiting.append((index, wave))
    if waiting:
        yield from heard(waiting)


@dataclass(frozen=True)
class _Piece:
    """What was heard in one piece of a recording, so many samples long; its words, where wanted, with times in it."""

    samples: int
    heard: Heard
    words: list[Word] | None


def _joined(pieces: Sequence[_Piece], how: Listening) -> Transcribed:
    found = [piece.heard for piece in pieces]
    text = how.tidy((" " if how.spaced else "").join(one.text.strip() for one in found))
    counts = [len(one.tokens) + (not one.limited) for one in found]
    sure = sum(one.confidence * count for one, count in zip(found, counts, strict=True)) / max(1, sum(counts))
    words, samples = [], 0
    for piece in pieces:
        before = samples / SAMPLE_RATE
        later = [replace(word, start=before + word.start, end=before + word.end) for word in piece.words or ()]
        if later and words and not how.spaced:
            later[0] = replace(later[0], spaced=False)
        words += later
        samples += piece.samples
    limited, timed = any(one.limited for one in found), pieces[0].words is not None
    return Transcribed(text, sure, sum(counts), len(found), limited, samples / SAMPLE_RATE, words if timed else None)


def decode(
    recogniser: Recogniser, data: DataDir, how: Listening, turn: Turn = nullcontext
) -> tuple[Transcripts, list[str]]:
    """Transcribe every utterance of ``data``; also the ids of those whose decoding ran on to its limit.

    Raises:
        DataError: an id that cannot be written; a recording that cannot be read or holds no frame.
    """
    started = time.perf_counter()
    utts = data.with_durations().utts
    trn_names(data.path, (utt.utt for utt in utts), {utt.utt: utt.speaker for utt in utts})  # before all the work
    if problems := too_short(utts, 1):
        raise DataError(summary(data.path, problems))
    found = dict(listen(recogniser, utts, how, turn=turn))
    order = range(len(utts))
    sure = [found[i].confidence for i in order if found[i].text]
    transcripts = Transcripts(
        texts={utts[i].utt: found[i].text for i in order},
        frames={utts[i].utt: -(-round(found[i].seconds * SAMPLE_RATE) // FRAME) for i in order},
        chunked=[utts[i].utt for i in order if found[i].pieces > 1],
        audio_seconds=sum(found[i].seconds for i in order),
        seconds=time.perf_counter() - started,
        confidence=sum(sure) / len(sure) if sure else None,
    )
    return transcripts, [utts[i].utt for i in order if found[i].limited]


def decode_experiment(
    exp_dir: Path,
    data_dir: Path,
    output_dir: Path,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    beam_size: int = 1,
    batch_seconds: Seconds = BATCH_SECONDS,
) -> dict:
    """Load, decode, score, write; returns what ``result.json`` holds. Raises what the steps raise."""
    from s3router.seq2seq.experiment import Seq2SeqExperiment
    from s3router.training.processes import check_device

    check_device(device)
    data, exp = DataDir.read(data_dir), Seq2SeqExperiment(exp_dir)
    how = listening_of(exp, beam_size=beam_size, batch_seconds=batch_seconds)
    found, limited = decode(exp.recogniser(checkpoint, device), data, how)
    if limited:
        logger.warning("decoding ran on and was cut off in %d utterances: %s", len(limited), shorten(limited))
    extra = {"exp_dir": str(exp_dir), "checkpoint": str(checkpoint or ""), "device": device, "ran_on": limited}
    extra |= {"language": exp.language, "search": {"beam_size": beam_size}}
    return write_output(output_dir, data, found, None, extra)


def listening_of(exp, **more) -> Listening:
    """How a `s3router.seq2seq.experiment.Seq2SeqExperiment` was trained to listen; ``more``: further fields."""
    options = exp.options
    texts = options["normalize"], options["text_language"]
    return Listening(exp.language, exp.max_tokens_per_second, *texts, options["window_step"], **more)
