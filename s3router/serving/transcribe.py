"""Transcription by any number of routes on one resident backbone; the language given, or found by the decoders.

How a language is found: every candidate route decodes the utterance (greedily). Its confidence is the log probability
per token: by CTC that of the best path, summed over all frames, blanks included, and divided by the number of tokens
written; of a whole recogniser the mean over its tokens, the end of the text included. The
right decoder is sure of many tokens; a wrong one writes few, or is not sure of them. What a route usually reaches in
its own language is taken off (`s3router.serving.langid`), and the highest wins. Measured in docs/routing.md. Where the
packs do not say what is usual, the log share of characters that a route gets right on its development set is added. A
route that gets most of them wrong says little about the language: it wins where no other hears anything.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from s3router.asr.ctc_decode import BatchOptions, GreedySearch, best_path, best_tokens, decode_many, plan_batches
from s3router.asr.decode import decode
from s3router.asr.decode_output import Transcripts
from s3router.data.audio import Seconds
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.tokens import TokenIds
from s3router.data.words import Word
from s3router.errors import ConfigError
from s3router.scoring.files import shorten
from s3router.serving.reading import WaveReader
from s3router.serving.route_heads import CTCHead
from s3router.serving.routed_model import RoutedModel, TextHead
from s3router.serving.words import timed_words

logger = logging.getLogger(__name__)

GROUP = 4
"""Batches whose recordings are heard in all ways that there are, or told apart, before the next ones are read."""
WEAK = 0.6
"""Share of characters (or phones) that a route gets wrong, above which it says little about the language."""


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording.

    Attributes:
        utt: its id.
        source: where it was read from.
        route: the language: the one given, or the surest.
        text: the transcript under that route.
        seconds: length of the recording.
        heard: what that route made of it.
        scores: route -> confidence less the route's offset, of every route that was tried, the best first (see
            `Ranking`); minus infinity where it wrote nothing.
    """

    utt: str
    source: str
    route: str
    text: str
    seconds: Seconds
    heard: Hypothesis
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Hypothesis:
    """One recording under one route.

    Attributes:
        tokens: ids of a CTC route's tokens; none for a whole recogniser.
        confidence: log probability per token, of the best path; -inf where nothing was written.
        text: of a whole recogniser.
        path: of CTC, (frames, 2): the best token of each frame and its log probability; see
            `s3router.serving.words`.
        words: of a whole recogniser, with times, where they were wanted.
    """

    tokens: list[int]
    confidence: float
    text: str | None = None
    path: Tensor | None = field(default=None, repr=False, compare=False)
    words: list[Word] | None = field(default=None, repr=False, compare=False)

    def written(self, tokens: TokenIds | None) -> str:
        """The text, by its route's tokens; None for a whole recogniser, which has written it already."""
        return self.text or "" if tokens is None else tokens.decode(self.tokens)

    def timed(self, head: TextHead, stride: int, seconds: Seconds) -> list[Word] | None:
        """Its words with times: by CTC (`s3router.serving.words.timed_words`), else those of a whole recogniser.

        Args:
            head: its route's.
            stride, seconds: of the model's frames; of the recording.
        """
        if head.tokens is None or self.path is None:
            return self.words
        return timed_words(self.path, head.tokens, stride, seconds, head.spaced)


def transcribe(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Sequence[str],
    options: BatchOptions | None = None,
    ranking: Ranking | None = None,
    bad: dict[int, str] | None = None,
    words: bool = False,
) -> Iterator[tuple[int, Transcript]]:
    """Transcribe recordings under the surest of `routes`, each.

    Args:
        model: from `s3router.serving.loading.load_routes`.
        recordings: with durations (`s3router.data.recordings.find_recordings`).
        routes: the candidates; one alone is taken without asking. Each costs a forward pass through the transformer.
        options: batches and chunks.
        ranking: how the routes' confidences are compared; by default as the packs say (`ranking_of`).
        bad: see `s3router.serving.reading.WaveReader`; what is in it is not yielded.
        words: whole recognisers give times of words, too, which costs another pass of their decoders.

    Yields:
        (index in `recordings`, transcript), in the order of decoding: the longest first.

    Raises:
        ConfigError: unknown route, or none.
        DataError: a recording cannot be read or is too short for one frame (all that are, before the first is decoded).
    """
    ranking = ranking or ranking_of(model, routes)
    timed = range(len(recordings)) if words else ()
    for index, heard in hear(model, recordings, routes, options, bad, timed=timed):
        utt = recordings[index]
        scores = ranking.scores(heard)
        best = next(iter(scores))
        text = heard[best].written(model.text_head(best).tokens)
        yield index, Transcript(utt.utt, utt.source, best, text, utt.duration, heard[best], scores)


@dataclass(frozen=True)
class Ranking:
    """How the confidences of several routes are compared.

    Attributes:
        offsets: route -> what is taken off its confidence (0 where it is not in here).
        calibrated: the offsets are usual confidences.
        weak: routes with an error rate above `WEAK` on their development sets. They come behind all others that wrote
            something.
    """

    offsets: Mapping[str, float] = field(default_factory=dict)
    calibrated: bool = False
    weak: Mapping[str, float] = field(default_factory=dict)

    def scores(self, heard: Mapping[str, Hypothesis]) -> dict[str, float]:
        """Route -> confidence less its offset, the best first; equals in the order of `heard`."""
        scores = {route: hypothesis.confidence - self.offsets.get(route, 0.0) for route, hypothesis in heard.items()}

        def order(item: tuple[str, float]) -> tuple[bool, bool, float]:
            route, score = item
            return score == -math.inf, route in self.weak, -score

        return dict(sorted(scores.items(), key=order))


def ranking_of(model: RoutedModel, routes: Sequence[str]) -> Ranking:
    """As the packs say: usual confidences if all of them have one; else error rates, if all of them have one."""
    heads = {route: model.text_head(route) for route in routes}
    return ranking_by({route: (head.usual_confidence, head.error_rate) for route, head in heads.items()})


def ranking_by(figures: Mapping[str, tuple[float | None, float | None]]) -> Ranking:
    """As `ranking_of`, from route -> usual confidence and error rate (`s3router.serving.route_heads.dev_figures`)."""
    usual = {route: confidence for route, (confidence, _) in figures.items()}
    errors = {route: rate for route, (_, rate) in figures.items()}
    weak = {route: rate for route, rate in errors.items() if rate is not None and rate > WEAK}
    if None not in usual.values():
        return Ranking(usual, True, weak)
    if None not in errors.values():
        return Ranking({route: -math.log(max(1 - rate, 0.01)) for route, rate in errors.items()}, False, weak)
    return Ranking(weak=weak)


def hear(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Sequence[str],
    options: BatchOptions | None = None,
    bad: dict[int, str] | None = None,
    read: Callable[[int], np.ndarray] | None = None,
    timed: Collection[int] = (),
) -> Iterator[tuple[int, dict[str, Hypothesis]]]:
    """As `transcribe`, with what every route makes of a recording: route -> hypothesis.

    Args:
        read: index -> float32 (samples,) at 16 kHz, of one frame at least; by default from where the recordings are.
        timed: indices of recordings of which whole recognisers, too, give times of words.
    """
    if not routes:
        raise ConfigError(f"no route to transcribe by; known: {', '.join(model.routes) or 'none, add a pack first'}")
    heads = {route: model.text_head(route) for route in routes}
    by_ctc = [route for route, head in heads.items() if isinstance(head, CTCHead)]
    whole = [route for route in heads if route not in by_ctc]
    read, options = read or WaveReader(recordings, model.receptive_field, bad), options or BatchOptions()
    several = len(whole) + bool(by_ctc) > 1
    groups: Sequence[Sequence[int]] = [range(len(recordings))]
    if several:  # each hears all of a group before its first text is there
        groups = plan_batches([utt.duration for utt in recordings], GROUP * options.batch_seconds)
    for group in groups:
        some = [recordings[index] for index in group]
        wave = _Group(read, group).wave if several else read
        times = [place for place, index in enumerate(group) if index in timed]
        streams = [_by_whole(model, route, some, wave, options, times) for route in whole]
        if by_ctc:
            streams.append(_by_ctc(model, by_ctc, some, wave, options))
        *first, last = streams
        before: dict[int, dict[str, Hypothesis]] = {}
        for stream in first:
            for place, found in stream:
                before.setdefault(place, {}).update(found)
        for place, found in last:
            if bad is None or group[place] not in bad:
                found |= before.pop(place, {})
                yield group[place], {route: found[route] for route in heads}


class _Group:
    """Recordings of a group, which several ways of hearing read one after the other: each is decoded once."""

    def __init__(self, read: Callable[[int], np.ndarray], group: Sequence[int]):
        self._read, self._group, self._waves = read, group, dict[int, np.ndarray]()

    def wave(self, place: int) -> np.ndarray:
        """float32 (samples,) of the recording at this place of the group."""
        if place not in self._waves:
            self._waves[place] = self._read(self._group[place])
        return self._waves[place]


def _by_ctc(
    model: RoutedModel,
    routes: list[str],
    recordings: Sequence[Utterance],
    read: Callable[[int], np.ndarray],
    options: BatchOptions,
) -> Iterator[tuple[int, dict[str, Hypothesis]]]:
    """What routes of CTC hear; the convolutions run once for all of them."""
    seconds = [utt.duration for utt in recordings]
    listener, search = _Listener(model, tuple(routes)), _BestTokens()
    for index, decoded in decode_many(listener, read, seconds, search, options):
        yield index, dict(zip(routes, decoded.tokens, strict=True))


def _by_whole(
    model: RoutedModel,
    route: str,
    recordings: Sequence[Utterance],
    read: Callable[[int], np.ndarray],
    options: BatchOptions,
    timed: Collection[int],
) -> Iterator[tuple[int, dict[str, Hypothesis]]]:
    """What a route of the whole recogniser hears."""
    for index, heard in model.whole.hear(route, model.text_head(route), recordings, read, options, timed):
        confidence = heard.confidence if heard.text else -math.inf
        yield index, {route: Hypothesis([], confidence, heard.text, words=heard.words)}


def decode_directory(
    model: RoutedModel, route: str, data: DataDir, options: BatchOptions
) -> tuple[Transcripts, TokenIds | None]:
    """Transcribe a data directory under one route; with the tokens that it writes with, None for whole recognisers.

    Raises:
        DataError: an id that cannot be written; a recording that cannot be read or holds no frame.
    """
    head = model.text_head(route)
    if isinstance(head, CTCHead):
        return decode(model.single(route), head.tokens, data, GreedySearch(), options), head.tokens
    found, limited = model.whole.decode(route, head, data, options)
    if limited:
        logger.warning("decoding ran on and was cut off in %d utterances: %s", len(limited), shorten(limited))
    return found, None


class _Listener(nn.Module):
    """Several routes behind the two entry points that `decode_many` uses: its "emissions" are (B, T, routes, 2), of
    every frame and route the best token's id and log probability.
    """

    def __init__(self, model: RoutedModel, routes: tuple[str, ...]):
        super().__init__()
        self.model = model
        self.routes = routes
        self.ctc = SimpleNamespace(log_softmax=lambda summary: summary)

    def encode(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waves = [row[:length] for row, length in zip(speech, lengths.tolist(), strict=True)]
        best = []
        for _, log_probs, frames in self.model.each_route(waves, self.routes):
            best.append(best_tokens(log_probs))
            lengths = torch.tensor(frames)
        return torch.stack(best, 2), lengths


class _BestTokens:
    """The `Search` for that: from a recording's frames to one hypothesis per route."""

    def reduce(self, log_probs: Tensor) -> Tensor:
        return log_probs

    def finish(self, frames: Tensor) -> list[Hypothesis]:
        return [Hypothesis(*best_path(route), path=route) for route in frames.unbind(1)]

    def confidence(self, frames: Tensor) -> None:
        """Each hypothesis has its own."""
