"""Transcription by any number of routes on one resident backbone; the language given, or found by the decoders.

How a language is found: every candidate route decodes the utterance (greedy CTC). Its confidence is the log probability
of its best path, a token: summed over all frames, blanks included, and divided by the number of tokens written. The
right decoder is sure of many tokens; a wrong one writes few, or is not sure of them. What a route usually reaches in
its own language is taken off (`s3router.serving.langid`), and the highest wins. Measured in docs/routing.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from s3router.asr.ctc_decode import BatchOptions, collapse, decode_many
from s3router.asr.decode import MIN_SAMPLES
from s3router.data.audio import Seconds, read_audio
from s3router.data.kaldi import Utterance
from s3router.data.recordings import problems_as_error
from s3router.errors import ConfigError, DataError
from s3router.serving.speech_routes import RoutedCTC


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording.

    Attributes:
        utt: its id.
        source: where it was read from.
        route: the language: the one given, or the surest.
        text: the transcript under that route.
        seconds: length of the recording.
        scores: route -> confidence less the route's offset, of every route that was tried, the surest first; minus
            infinity where it wrote nothing.
    """

    utt: str
    source: str
    route: str
    text: str
    seconds: Seconds
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Hypothesis:
    """One recording under one route: token ids, and the log probability of the best path a token; -inf without any."""

    tokens: list[int]
    confidence: float


def transcribe(
    model: RoutedCTC,
    recordings: Sequence[Utterance],
    routes: Sequence[str],
    options: BatchOptions | None = None,
    offsets: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, Transcript]]:
    """Transcribe recordings under the surest of `routes`, each.

    Args:
        model: from `s3router.serving.speech_routes.load_routes`.
        recordings: with durations (`s3router.data.recordings.find_recordings`).
        routes: the candidates; one alone is taken without asking. Each costs a forward pass through the transformer.
        options: batches and chunks.
        offsets: route -> its usual confidence, which is taken off; by default what the packs say, if all of them do.

    Yields:
        (index in `recordings`, transcript), in the order of decoding: the longest first.

    Raises:
        ConfigError: unknown route, or none.
        DataError: a recording cannot be read or is too short for one frame (all that are, before the first is decoded).
    """
    if offsets is None:
        offsets = usual_confidences(model, routes)
    for index, heard in hear(model, recordings, routes, options):
        utt = recordings[index]
        scores = rank(heard, offsets)
        best = next(iter(scores))
        text = model.head(best).tokens.decode(heard[best].tokens)
        yield index, Transcript(utt.utt, utt.source, best, text, utt.duration, scores)


def rank(heard: Mapping[str, Hypothesis], offsets: Mapping[str, float]) -> dict[str, float]:
    """Route -> confidence less its offset (0 where it has none), the surest first; equals in the order of `heard`."""
    scores = {route: hypothesis.confidence - offsets.get(route, 0.0) for route, hypothesis in heard.items()}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def usual_confidences(model: RoutedCTC, routes: Sequence[str]) -> dict[str, float]:
    """Route -> its mean confidence in its own language, as the packs say; empty unless all of them do."""
    found = {route: model.head(route).usual_confidence for route in routes}
    return {} if None in found.values() else found


def hear(
    model: RoutedCTC, recordings: Sequence[Utterance], routes: Sequence[str], options: BatchOptions | None = None
) -> Iterator[tuple[int, dict[str, Hypothesis]]]:
    """As `transcribe`, with what every route makes of a recording: route -> hypothesis."""
    if not routes:
        raise ConfigError(f"no route to transcribe by; known: {', '.join(model.routes) or 'none, add a pack first'}")
    for route in routes:
        model.head(route)
    # The shortest are decoded last, which is late to say it. One sample is left to resampling, which may round up.
    short = [(utt.source, int(utt.duration * 16000)) for utt in recordings if utt.duration * 16000 < MIN_SAMPLES - 1]
    if short:
        raise problems_as_error([_too_short(source, samples) for source, samples in short])

    def read(index: int) -> np.ndarray:
        wave = read_audio(recordings[index].source)
        if len(wave) < MIN_SAMPLES:
            raise DataError(_too_short(recordings[index].source, len(wave)))
        return wave

    seconds = [utt.duration for utt in recordings]
    listener, search = _Listener(model, tuple(routes)), _BestTokens()
    for index, decoded in decode_many(listener, read, seconds, search, options or BatchOptions()):
        yield index, dict(zip(routes, decoded.tokens, strict=True))


def _too_short(source: str, samples: int) -> str:
    return f"{source}: {samples} samples at 16 kHz are too short, one frame takes {MIN_SAMPLES}; leave it out"


class _Listener(nn.Module):
    """Several routes behind the two entry points that `decode_many` uses: its "emissions" are (B, T, routes, 2), of
    every frame and route the best token's id and log probability.
    """

    def __init__(self, model: RoutedCTC, routes: tuple[str, ...]):
        super().__init__()
        self.model = model
        self.routes = routes
        self.ctc = SimpleNamespace(log_softmax=lambda summary: summary)

    def encode(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waves = [row[:length] for row, length in zip(speech, lengths.tolist(), strict=True)]
        best = []
        for _, log_probs, frames in self.model.each_route(waves, self.routes):
            values, ids = log_probs.float().max(-1)
            best.append(torch.stack((ids.float(), values), -1))  # float32 holds every id below 2^24
            lengths = torch.tensor(frames)
        return torch.stack(best, 2), lengths


class _BestTokens:
    """The `Search` for that: from a recording's frames to one hypothesis a route."""

    def reduce(self, log_probs: Tensor) -> Tensor:
        return log_probs

    def finish(self, frames: Tensor) -> list[Hypothesis]:
        return [hypothesis(*route.unbind(-1)) for route in frames.unbind(1)]


def hypothesis(ids: Tensor, values: Tensor) -> Hypothesis:
    """From the best token of each frame and its log probability, (frames,) both."""
    tokens = collapse(ids.int().tolist())
    return Hypothesis(tokens, float(values.double().sum()) / len(tokens) if tokens else -math.inf)
