"""Transcription in two steps: a classifier on the first layers finds the language, then its route alone is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.kaldi import Utterance
from s3router.serving.language_classifier import LanguageClassifier, pooled_recordings
from s3router.serving.reading import WaveReader
from s3router.serving.routed_model import RoutedModel
from s3router.serving.transcribe import Transcript, transcribe

GROUP = 4
"""Batches whose recordings are told apart, and then transcribed language by language."""


def transcribe_identified(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Sequence[str],
    classifier: LanguageClassifier,
    options: BatchOptions | None = None,
    bad: dict[int, str] | None = None,
) -> Iterator[tuple[int, Transcript]]:
    """As `s3router.serving.transcribe.transcribe`, in one whole pass and a part of one, however many routes there are.

    The front end's output is kept from the first step to the second.

    Raises:
        ConfigError: unknown route, or one that the classifier does not know.
        PackError: the classifier is for another backbone.
        DataError: as `transcribe`.
    """
    options = options or BatchOptions()
    classifier.check(routes)
    classifier.check_backbone(model.upstream)
    WaveReader(recordings, model.receptive_field, bad)  # what is too short for a frame is said before the first text
    lengths = [utt.duration for utt in recordings]
    for group in plan_batches(lengths, GROUP * options.batch_seconds):
        with model.upstream.remembering_front_end():
            yield from _group(model, recordings, group, routes, classifier, options, bad)


def _group(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    group: Sequence[int],
    routes: Sequence[str],
    classifier: LanguageClassifier,
    options: BatchOptions,
    bad: dict[int, str] | None,
) -> Iterator[tuple[int, Transcript]]:
    spoken: dict[str, list[int]] = {}
    scores = {}
    unread: dict[int, str] | None = None if bad is None else {}
    for indices, features in pooled_recordings(
        model.upstream, [recordings[n] for n in group], classifier.layers, options, unread
    ):
        for index, found in zip(indices, classifier.log_probs(features[:, classifier.layers - 1], routes), strict=True):
            if index not in (unread or ()):
                scores[group[index]] = found
                spoken.setdefault(next(iter(found)), []).append(group[index])
    if bad is not None and unread:
        bad |= {group[index]: why for index, why in unread.items()}
    for route, members in spoken.items():
        for index, transcript in transcribe(model, [recordings[n] for n in members], [route], options):
            yield members[index], replace(transcript, scores=scores[members[index]])
