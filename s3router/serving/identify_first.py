"""Transcription in two steps: a classifier on the first layers finds the language, then its route alone is run.

Where the classifier is in doubt, the routes of the likeliest languages decode, and their confidences decide (`Doubt`).
Weak routes (`s3router.serving.transcribe.WEAK`) say little by theirs: they are neither asked nor overruled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.kaldi import Utterance
from s3router.errors import ConfigError
from s3router.serving.language_classifier import LanguageClassifier, pooled_recordings
from s3router.serving.reading import WaveReader
from s3router.serving.routed_model import RoutedModel
from s3router.serving.transcribe import GROUP, Transcript, ranking_of, transcribe


@dataclass(frozen=True)
class Doubt:
    """When the classifier's first choice is not taken unasked.

    Attributes:
        best: the routes of so many likeliest languages decode then; 1: there is no doubt.
        sure: a first choice of this probability, or more, is taken.

    Raises:
        ConfigError: values outside of these ranges.
    """

    best: int = 1
    sure: float = 0.9

    def __post_init__(self):
        if type(self.best) is not int or self.best < 1:
            raise ConfigError(f"best must be a whole number, 1 at least, found {self.best!r}")
        if not isinstance(self.sure, int | float) or not 0 <= self.sure <= 1:
            raise ConfigError(f"sure must be a probability, found {self.sure!r}")

    def candidates(self, log_probs: Mapping[str, float]) -> list[str]:
        """The languages whose routes decode, of language -> log probability, the best first."""
        first, *rest = log_probs
        return [first] if math.exp(log_probs[first]) >= self.sure else [first, *rest[: self.best - 1]]


def transcribe_identified(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Sequence[str] | Mapping[str, str],
    classifier: LanguageClassifier,
    options: BatchOptions | None = None,
    bad: dict[int, str] | None = None,
    doubt: Doubt | None = None,
    words: bool = False,
) -> Iterator[tuple[int, Transcript]]:
    """As `s3router.serving.transcribe.transcribe`, in one whole pass and a part of one, however many routes there are.

    The front end's output is kept from the first step to the second. The ``route`` of a transcript is its language.

    Args:
        routes: the languages to choose from, which are routes; or language -> its route, which languages may share.
        doubt: by default there is none.
        words: as of `transcribe`.

    Raises:
        ConfigError: unknown route, or one that the classifier does not know.
        PackError: the classifier is for another backbone.
        DataError: as `transcribe`.
    """
    options = options or BatchOptions()
    route_of = routes if isinstance(routes, Mapping) else {route: route for route in routes}
    classifier.check(list(route_of))
    classifier.check_backbone(model.upstream)
    WaveReader(recordings, model.receptive_field, bad)  # what is too short for a frame is said before the first text
    weak = frozenset(ranking_of(model, list(dict.fromkeys(route_of.values()))).weak)
    job = _Job(model, recordings, route_of, classifier, options, bad, doubt or Doubt(), weak, words)
    for group in plan_batches([utt.duration for utt in recordings], GROUP * options.batch_seconds):
        with model.upstream.remembering_front_end():
            yield from job.group(group)


@dataclass(frozen=True)
class _Job:
    """The arguments of `transcribe_identified`, and the weak routes."""

    model: RoutedModel
    recordings: Sequence[Utterance]
    route_of: Mapping[str, str]
    classifier: LanguageClassifier
    options: BatchOptions
    bad: dict[int, str] | None
    doubt: Doubt
    weak: frozenset[str]
    words: bool = False

    def group(self, group: Sequence[int]) -> Iterator[tuple[int, Transcript]]:
        """Recordings of these indices, told apart and then transcribed by the same routes together."""
        together: dict[tuple[str, ...], list[_Guess]] = {}
        for guess in self._guesses(group):
            together.setdefault(tuple(sorted(guess.languages)), []).append(guess)
        for routes, guesses in together.items():
            utts = [self.recordings[guess.index] for guess in guesses]
            for index, transcript in transcribe(self.model, utts, routes, self.options, words=self.words):
                guess = guesses[index]
                found = guess.languages[transcript.route]
                yield guess.index, replace(transcript, route=found, scores=guess.scores)

    def _guesses(self, group: Sequence[int]) -> Iterator[_Guess]:
        unread: dict[int, str] | None = None if self.bad is None else {}
        utts, layers = [self.recordings[n] for n in group], self.classifier.layers
        for indices, features in pooled_recordings(self.model.upstream, utts, layers, self.options, unread):
            found = self.classifier.log_probs(features[:, layers - 1], list(self.route_of))
            for index, scores in zip(indices, found, strict=True):
                if index not in (unread or ()):
                    yield _Guess(group[index], scores, self._languages(scores))
        if self.bad is not None and unread:
            self.bad.update({group[index]: why for index, why in unread.items()})

    def _languages(self, scores: Mapping[str, float]) -> dict[str, str]:
        """Route that decodes -> the likeliest language of those that it is for."""
        first, *others = self.doubt.candidates(scores)
        languages = {self.route_of[first]: first}
        if self.route_of[first] not in self.weak:
            for lang in others:
                if self.route_of[lang] not in self.weak:
                    languages.setdefault(self.route_of[lang], lang)
        return languages


@dataclass(frozen=True)
class _Guess:
    """Of recording `index` the classifier's `scores`, and route that decodes -> its language."""

    index: int
    scores: Mapping[str, float]
    languages: Mapping[str, str]
