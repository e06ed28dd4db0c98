"""The one thread that runs the model: rounds of pieces, grouped by route.

Pieces that arrive within some milliseconds go together, route by route, so that a switch of weights serves all pieces
of its route. Within a route each piece is computed by itself unless batches are asked for. So its numbers are those of
the single model, bit by bit, whatever else is under way. A round is short, and each piece is answered as soon as it is
heard: what comes meanwhile does not wait long, and what nobody waits for any more is left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.kaldi import Utterance
from s3router.data.words import Word
from s3router.errors import S3RouterError
from s3router.server.catalogue import Found
from s3router.server.metrics import Metrics
from s3router.server.refusal import Refusal
from s3router.server.residents import Residents
from s3router.server.turns import Turns
from s3router.serving.language_classifier import LanguageClassifier, pooled
from s3router.serving.route_heads import dev_figures
from s3router.serving.routed_model import RoutedModel, TextHead
from s3router.serving.transcribe import Hypothesis, hear, ranking_by

logger = logging.getLogger(__name__)

ROUND: Seconds = 60.0
"""Work of a round at most, in seconds of audio times passes of the model: two of the longest pieces, or many short
ones under a route each. What comes meanwhile waits for it."""


@dataclass(frozen=True)
class Heard:
    """What was heard in a piece.

    Attributes:
        route: the surest of the candidates.
        text: under that route.
        tokens: ids of its tokens; none for a whole recogniser.
        confidence: log probability per token; minus infinity where nothing was written.
        scores: see `s3router.serving.transcribe.Transcript`.
        spaced: whether blanks part the words of that route's language.
        words: with times from the beginning of the piece; None of a whole recogniser that was not asked for them.
        queued, computed: how long it waited, for its turn and while others had theirs, and how long the model worked
            on it.
    """

    route: str
    text: str
    tokens: list[int]
    confidence: float
    scores: dict[str, float]
    spaced: bool
    words: list[Word] | None
    queued: Seconds
    computed: Seconds


@dataclass(eq=False)
class Piece:
    """A waveform that waits to be heard.

    Args:
        wave: float32 (samples,) at 16 kHz, of one frame at least, and not longer than the model takes at once.
        routes: the candidates.
        timed: with times of words from whole recognisers, too.
        future: may be cancelled until it is done.
        passes: of the model that are left.
        due: see `s3router.server.turns.Turns`.
    """

    wave: np.ndarray
    routes: Sequence[Found]
    timed: bool = False
    future: Future[Heard] = field(default_factory=Future)
    passes: int = 1
    due: Seconds = 0.0
    arrived: float = 0.0
    computed: float = 0.0
    heard: dict[str, tuple[Hypothesis, TextHead]] = field(default_factory=dict)
    scores: dict[str, float] | None = None  # of a classifier

    @property
    def seconds(self) -> Seconds:
        """Its length."""
        return len(self.wave) / SAMPLE_RATE

    @property
    def work(self) -> Seconds:
        """That is left: its length times passes."""
        return self.passes * self.seconds


class Engine:
    """The queue and its thread.

    Args:
        model: without routes; no one else may use it from now on.
        budget: see `s3router.server.residents.Residents`.
        wait: seconds that pieces wait for others to come, unless a round is full.
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
        self._round_work = max(ROUND, options.batch_seconds)
        self._queue = Turns(self._round_work)
        self._tasks: list[tuple[Callable[[], Any], Future]] = []
        self._accepted = 0  # samples times passes; whole numbers, which come back to 0
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
            return self._queue.audio

    @property
    def accepted_seconds(self) -> Seconds:
        """Work of all pieces and reservations that are neither done nor cancelled, those under way included."""
        with self._changed:
            return self._accepted / SAMPLE_RATE

    def passes(self, routes: Sequence[Found]) -> int:
        """Of the model for a piece with these candidates; one where a classifier chooses before."""
        return len(routes) if self.classifier is None else 1

    def check_room(self, samples: int, most: Seconds) -> None:
        """See that some more work can be accepted. Alone it always can, whatever its size.

        Args:
            samples: of audio, times passes of the model.
            most: seconds of work, with what has been accepted.

        Raises:
            Refusal: too much has been accepted already.
        """
        with self._changed:
            if self._accepted and self._accepted + samples > most * SAMPLE_RATE:
                message = (
                    f"{self._accepted / SAMPLE_RATE:.0f} s of audio, times candidates, are under way already; try "
                    "again later"
                )
                raise Refusal(429, message, "queue_full", retry_after=10)

    @contextmanager
    def reserving(self, samples: int, most: Seconds) -> Iterator[None]:
        """Count work as accepted for the length of the block, in which it is submitted or not. As `check_room`."""
        with self._changed:
            self.check_room(samples, most)
            self._accepted += samples
        try:
            yield
        finally:
            self._release(samples)

    @property
    def resident(self) -> Mapping[str, int]:
        """Routes in memory and their bytes."""
        return self._residents.nbytes

    def submit(self, pieces: Sequence[Piece]) -> None:
        """Hear the pieces of a recording; their futures have what was heard, each as soon as it is known."""
        with self._changed:
            if self._stopping:
                raise RuntimeError("the engine is stopping")
            for piece in pieces:
                piece.arrived, piece.passes = time.monotonic(), self.passes(piece.routes)
                samples = piece.passes * len(piece.wave)
                self._accepted += samples
                piece.future.add_done_callback(lambda _, samples=samples: self._release(samples))
            self._queue.add(pieces)
            self._changed.notify()

    def withdraw(self, pieces: Sequence[Piece]) -> None:
        """Nobody waits for these any more: they leave the queue, and what is not heard of them never is."""
        cancelled = [piece.future.cancel() for piece in pieces]
        if any(cancelled):
            with self._changed:
                self._queue.withdraw_cancelled()

    def _release(self, samples: int) -> None:
        with self._changed:
            self._accepted -= samples

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
                self._wait_for_others()
                with self._changed:
                    taken = self._queue.take()
                self._round(taken)

    def _wait_for_others(self) -> None:
        with self._changed:
            full = self._queue.work >= self._round_work
        if not full and not self._stopping:
            time.sleep(self._wait)

    def _round(self, pieces: list[Piece]) -> None:
        """Hear some pieces, each under its candidates, one route after another.

        A piece with more candidates than there is time for gives way in between to those that are due before its rest.
        """
        several = any(len(piece.routes) > 1 for piece in pieces)
        with self.model.upstream.remembering_front_end() if several else nullcontext():
            if self.classifier is not None:
                for piece in pieces:
                    if len(piece.routes) > 1 and not piece.future.done():
                        self._identify(piece, self.classifier)
            needed: dict[str, tuple[Found, list[Piece]]] = {}
            for piece in pieces:
                for found in piece.routes:
                    if found.route not in piece.heard:
                        needed.setdefault(found.route, (found, []))[1].append(piece)
            ready = self._ready()
            spent = 0.0
            for found, members in sorted(needed.values(), key=lambda item: _turn(item[1], item[0].route in ready)):
                if spent >= self._round_work:
                    if self._give_way(pieces):
                        return
                    spent = 0.0
                members = [piece for piece in members if not piece.future.done()]
                self._under(found, members)
                spent += sum(piece.seconds for piece in members)

    def _give_way(self, pieces: Sequence[Piece]) -> bool:
        """Put the rest of these back into the queue if others are due before it, or tasks wait."""
        left = [piece for piece in pieces if not piece.future.done()]
        with self._changed:
            if not self._tasks and all(self._queue.goes_on(piece) for piece in left):
                return False
            for piece in left:
                self._queue.put_back(piece)
        return True

    def _identify(self, piece: Piece, classifier: LanguageClassifier) -> None:
        """Leave a piece the candidate that the classifier chooses."""
        started = time.monotonic()
        try:
            features = pooled(self.model.upstream, [piece.wave], classifier.layers, self.options.bf16)
            names = [found.route for found in piece.routes]
            (piece.scores,) = classifier.log_probs(features[:, classifier.layers - 1], names)
            piece.routes = [found for found in piece.routes if found.route == next(iter(piece.scores))]
        except Exception as error:
            _fail(piece, error)
        piece.computed += time.monotonic() - started

    def _under(self, found: Found, pieces: list[Piece]) -> None:
        """Hear pieces under one route, batch by batch, and answer those that are through."""
        if not pieces:
            return
        started = time.monotonic()
        try:
            self._residents.bring(found)
            if found.route not in self._ready():
                self.metrics.switches.inc()
        except Exception as error:
            self._failed(found, pieces, error)
            return
        finally:
            _share(pieces, time.monotonic() - started)
        batches = [[index] for index in range(len(pieces))]  # in turn, where each is computed by itself
        if self.options.batch_seconds:
            batches = plan_batches([piece.seconds for piece in pieces], self.options.batch_seconds)
        for batch in batches:
            self._hear(found, [pieces[index] for index in batch if not pieces[index].future.done()])

    def _hear(self, found: Found, pieces: list[Piece]) -> None:
        """Hear pieces under a route in memory; where that fails, each by itself, so that one harms no other."""
        if not pieces:
            return
        started = time.monotonic()
        try:
            head = self.model.text_head(found.route)
            utts = [Utterance("", "", duration=piece.seconds) for piece in pieces]
            timed = [index for index, piece in enumerate(pieces) if piece.timed]
            for index, heard in hear(
                self.model, utts, [found.route], self.options, read=lambda index: pieces[index].wave, timed=timed
            ):
                pieces[index].heard[found.route] = heard[found.route], head
        except Exception as error:
            if len(pieces) > 1 and not isinstance(error, S3RouterError):
                for piece in pieces:
                    self._hear(found, [piece])
                return
            self._failed(found, pieces, error)
        _share(pieces, time.monotonic() - started)
        for piece in pieces:
            piece.passes -= 1
            self.metrics.pieces.labels(found.route).inc()
            if len(piece.heard) == len(piece.routes):
                _settle(piece.future, lambda piece=piece: self._result(piece))

    def _failed(self, found: Found, pieces: Sequence[Piece], error: Exception) -> None:
        if not isinstance(error, S3RouterError):
            fields = {"route": found.route}
            logger.error("a piece could not be heard", exc_info=error, extra={"fields": fields})
        for piece in pieces:
            _fail(piece, error)

    def _result(self, piece: Piece) -> Heard:
        figures = {found.route: dev_figures(found.meta) for found in piece.routes}
        hypotheses = {found.route: piece.heard[found.route][0] for found in piece.routes}
        scores = piece.scores or ranking_by(figures).scores(hypotheses)
        best = next(iter(scores))
        hypothesis, head = piece.heard[best]
        text, words = hypothesis.written(head.tokens), hypothesis.timed(head, self.model.stride, piece.seconds)
        queued = time.monotonic() - piece.arrived - piece.computed
        self.metrics.queue.observe(queued)
        self.metrics.inference.observe(piece.computed)
        sure, spaced = hypothesis.confidence, head.spaced
        return Heard(best, text, hypothesis.tokens, sure, scores, spaced, words, queued, piece.computed)

    def _ready(self) -> tuple[str, ...]:
        whole = () if self.model.whole is None else self.model.whole.routes.ready
        return self.model.upstream.routes.ready + whole


def _turn(pieces: Sequence[Piece], ready: bool) -> tuple[int, bool]:
    """Sorts the routes of a round: pieces with a single candidate do not wait for those with many."""
    return min(len(piece.routes) for piece in pieces), not ready


def _share(pieces: Sequence[Piece], took: Seconds) -> None:
    """Count time that was spent on several pieces, by their lengths."""
    share = took / sum(piece.seconds for piece in pieces)
    for piece in pieces:
        piece.computed += share * piece.seconds


def _settle(done: Future, work: Callable[[], Any]) -> None:
    """Do what somebody waits for, unless nobody does any more."""
    if done.done() or not done.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except Exception as error:
        done.set_exception(error)
    else:
        done.set_result(result)


def _fail(piece: Piece, error: Exception) -> None:
    if not piece.future.done() and piece.future.set_running_or_notify_cancel():
        piece.future.set_exception(error)
