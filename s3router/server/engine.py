"""The one thread that runs the model: a short queue of pieces, grouped by route.

Pieces that arrive within some milliseconds go together, route by route, so that a switch of weights serves all pieces
of its route. Within a route each piece is computed by itself unless batches are asked for. So its numbers are those of
the single model, bit by bit, whatever else is under way.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.kaldi import Utterance
from s3router.data.tokens import TokenIds
from s3router.data.words import Word
from s3router.errors import S3RouterError
from s3router.server.catalogue import Found
from s3router.server.metrics import Metrics
from s3router.server.residents import Residents
from s3router.serving.language_classifier import LanguageClassifier, pooled
from s3router.serving.route_heads import dev_figures
from s3router.serving.routed_model import RoutedModel
from s3router.serving.transcribe import Hypothesis, hear, ranking_by

logger = logging.getLogger(__name__)

ROUND = 32
"""Pieces that are taken from the queue at a time."""
AGE: Seconds = 1.0
"""The later pieces of a recording wait as if they had come so much later each: a long one does not block short ones."""


@dataclass(frozen=True)
class Heard:
    """What was heard in a piece.

    Attributes:
        route: the surest of the candidates.
        text: under that route.
        tokens: ids of its tokens; none for a whole recogniser.
        confidence: log probability per token; minus infinity where nothing was written.
        scores: see `s3router.serving.transcribe.Transcript`.
        words: with times from the beginning of the piece; None of a whole recogniser that was not asked for them.
        queued, computed: how long it waited, for its turn and while others had theirs, and how long the model worked
            on it.
    """

    route: str
    text: str
    tokens: list[int]
    confidence: float
    scores: dict[str, float]
    words: list[Word] | None
    queued: Seconds
    computed: Seconds


@dataclass
class Piece:
    """A waveform that waits to be heard.

    Args:
        wave: float32 (samples,) at 16 kHz, of one frame at least, and not longer than the model takes at once.
        routes: the candidates.
        number: which piece of its recording it is.
        timed: with times of words from whole recognisers, too.
    """

    wave: np.ndarray
    routes: Sequence[Found]
    number: int = 0
    timed: bool = False
    future: Future[Heard] = field(default_factory=Future)
    arrived: float = 0.0
    computed: float = 0.0
    heard: dict[str, tuple[Hypothesis, TokenIds | None]] = field(default_factory=dict)
    scores: dict[str, float] | None = None  # of a classifier

    @property
    def seconds(self) -> Seconds:
        """Its length."""
        return len(self.wave) / SAMPLE_RATE


class Engine:
    """The queue and its thread.

    Args:
        model: without routes; no one else may use it from now on.
        budget: see `s3router.server.residents.Residents`.
        wait: seconds from a piece's arrival until the queue is looked at, for others to come.
        options: batches; ``batch_seconds`` 0 computes each piece by itself.
        classifier: chooses among the candidates of a piece; None: their confidences do.
    """

    def __init__(
        self,
        model: RoutedModel,
        budget: int,
        metrics: Metrics,
        wait: Seconds,
        options: BatchOptions,
        classifier: LanguageClassifier | None = None,
    ):
        self.model, self.metrics, self.options, self.classifier = model, metrics, options, classifier
        self._residents = Residents(model, budget, metrics)
        self._wait = wait
        self._queue: list[tuple[float, int, Piece]] = []
        self._tasks: list[tuple[Callable[[], Any], Future]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        metrics.waiting.set_function(lambda: len(self._queue))
        metrics.waiting_audio.set_function(lambda: self.waiting_seconds)
        metrics.resident.set_function(lambda: len(self.resident))
        metrics.resident_bytes.set_function(lambda: sum(self.resident.values()))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Hear what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting_seconds(self) -> Seconds:
        """Audio in the queue."""
        with self._changed:
            return sum(piece.seconds for _, _, piece in self._queue)

    @property
    def resident(self) -> Mapping[str, int]:
        """Routes in memory and their bytes."""
        return self._residents.nbytes

    def submit(self, piece: Piece) -> Future[Heard]:
        """Hear a piece; cancelling the future takes it from the queue."""
        piece.arrived = time.monotonic()
        with self._changed:
            if self._stopping:
                raise RuntimeError("the engine is stopping")
            order = piece.arrived + AGE * piece.number
            heapq.heappush(self._queue, (order, next(self._count), piece))
            self._changed.notify()
        return piece.future

    def load(self, found: Found) -> Future[None]:
        """Have a route in memory."""
        return self._task(lambda: self._residents.bring(found))

    def unload(self, route: str) -> Future[None]:
        """Have a route out of memory."""

        def drop() -> None:
            if route in self._residents.nbytes:
                self._residents.drop(route)

        return self._task(drop)

    def _task(self, work: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        with self._changed:
            self._tasks.append((work, done))
            self._changed.notify()
        return done

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._tasks or self._stopping)
                if not self._queue and not self._tasks:
                    return
                tasks, self._tasks = self._tasks, []
            for work, done in tasks:
                _settle(done, work)
            if self._queue:
                time.sleep(0 if self._stopping else self._wait)
                with self._changed:
                    taken = [heapq.heappop(self._queue)[2] for _ in range(min(ROUND, len(self._queue)))]
                self._round([piece for piece in taken if piece.future.set_running_or_notify_cancel()])

    def _round(self, pieces: list[Piece]) -> None:
        """Hear some pieces, each under its candidates, one route after another."""
        several = any(len(piece.routes) > 1 for piece in pieces)
        with self.model.upstream.remembering_front_end() if several else nullcontext():
            if self.classifier is not None:
                for piece in pieces:
                    if len(piece.routes) > 1:
                        self._identify(piece, self.classifier)
            needed: dict[str, tuple[Found, list[Piece]]] = {}
            for piece in pieces:
                for found in piece.routes:
                    needed.setdefault(found.route, (found, []))[1].append(piece)
            ready = self._ready()
            for found, members in sorted(needed.values(), key=lambda item: _turn(item[1], item[0].route in ready)):
                self._under(found, [piece for piece in members if not piece.future.done()])
                for piece in members:
                    if not piece.future.done() and len(piece.heard) == len(piece.routes):
                        _settle(piece.future, lambda piece=piece: self._result(piece))

    def _identify(self, piece: Piece, classifier: LanguageClassifier) -> None:
        """Leave a piece the candidate that the classifier chooses."""
        started = time.monotonic()
        try:
            features = pooled(self.model.upstream, [piece.wave], classifier.layers, self.options.bf16)
            names = [found.route for found in piece.routes]
            (piece.scores,) = classifier.log_probs(features[:, classifier.layers - 1], names)
            piece.routes = [found for found in piece.routes if found.route == next(iter(piece.scores))]
        except Exception as error:
            piece.future.set_exception(error)
        piece.computed += time.monotonic() - started

    def _under(self, found: Found, pieces: list[Piece]) -> None:
        """Hear pieces under one route; where that fails, each by itself, so that one harms no other."""
        if not pieces:
            return
        started = time.monotonic()
        try:
            self._residents.bring(found)
            if found.route not in self._ready():
                self.metrics.switches.inc()
            head = self.model.text_head(found.route)
            utts = [Utterance("", "", duration=piece.seconds) for piece in pieces]
            timed = [index for index, piece in enumerate(pieces) if piece.timed]
            for index, heard in hear(
                self.model, utts, [found.route], self.options, read=lambda index: pieces[index].wave, timed=timed
            ):
                pieces[index].heard[found.route] = heard[found.route], head.tokens
        except Exception as error:
            if len(pieces) > 1 and not isinstance(error, S3RouterError):
                for piece in pieces:
                    self._under(found, [piece])
                return
            if not isinstance(error, S3RouterError):
                logger.exception("a piece could not be heard", extra={"fields": {"route": found.route}})
            for piece in pieces:
                piece.future.set_exception(error)
        share = (time.monotonic() - started) / sum(piece.seconds for piece in pieces)
        for piece in pieces:
            piece.computed += share * piece.seconds
            self.metrics.pieces.labels(found.route).inc()

    def _result(self, piece: Piece) -> Heard:
        figures = {found.route: dev_figures(found.meta) for found in piece.routes}
        hypotheses = {found.route: piece.heard[found.route][0] for found in piece.routes}
        scores = piece.scores or ranking_by(figures).scores(hypotheses)
        best = next(iter(scores))
        hypothesis, tokens = piece.heard[best]
        text, words = hypothesis.written(tokens), hypothesis.timed(tokens, self.model.stride)
        queued = time.monotonic() - piece.arrived - piece.computed
        self.metrics.queue.observe(queued)
        self.metrics.inference.observe(piece.computed)
        sure = hypothesis.confidence
        return Heard(best, text, hypothesis.tokens, sure, scores, words, queued, piece.computed)

    def _ready(self) -> tuple[str, ...]:
        whole = () if self.model.whole is None else self.model.whole.routes.ready
        return self.model.upstream.routes.ready + whole


def _turn(pieces: Sequence[Piece], ready: bool) -> tuple[int, bool]:
    """Sorts the routes of a round: pieces with a single candidate do not wait for those with many."""
    return min(len(piece.routes) for piece in pieces), not ready


def _settle(done: Future, work: Callable[[], Any]) -> None:
    try:
        done.set_result(work())
    except Exception as error:
        done.set_exception(error)
