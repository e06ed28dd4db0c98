"""Language identification: how sure each route usually is, and how often the surest one, or a classifier, is right.

The tokens of one language are rarer, its data less or its training longer than another's, so routes differ in how sure
they are of what they hear, even of the right language. So each route's mean confidence on development data of its own
language is measured once (`usual_confidence`), kept in its pack (`store_confidence`), and taken off. Only that language
is needed for it: a route that comes later changes nothing in the other packs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.kaldi import Utterance
from s3router.errors import ConfigError, DataError
from s3router.packs import read_pack, write_pack
from s3router.packs.pack_file import read_parts
from s3router.serving.language_classifier import LanguageClassifier, pooled_recordings
from s3router.serving.reading import WaveReader
from s3router.serving.route_heads import with_confidence
from s3router.serving.routed_model import RoutedModel
from s3router.serving.transcribe import Hypothesis, Ranking, hear
from s3router.upstreams.routed import RoutedUpstream
from s3router.upstreams.upstream import Upstream


@dataclass(frozen=True)
class Identified:
    """What language identification gave.

    Attributes:
        counts: true language -> guessed route -> utterances.
        seconds: wall time of it, reading included.
        audio_seconds: length of all recordings.
        passes: forward passes through the transformer per utterance (the convolutions: one), until its text is there.
    """

    counts: dict[str, dict[str, int]]
    seconds: Seconds
    audio_seconds: Seconds
    passes: float

    @property
    def accuracy(self) -> float:
        """Share of all utterances whose route is their language."""
        return sum(row[lang] for lang, row in self.counts.items()) / sum(
            sum(row.values()) for row in self.counts.values()
        )

    def accuracy_of(self, lang: str) -> float:
        """The same of one language's utterances."""
        return self.counts[lang][lang] / sum(self.counts[lang].values())


def usual_confidence(
    model: RoutedModel, route: str, recordings: Sequence[Utterance], options: BatchOptions | None = None
) -> float:
    """The mean confidence of a route on recordings of its own language; those that it hears nothing in are left out.

    Raises:
        DataError: it hears nothing in any.
    """
    found = [heard[route].confidence for _, heard in hear(model, recordings, [route], options)]
    finite = [value for value in found if math.isfinite(value)]
    if not finite:
        raise DataError(f"route {route}: writes nothing for any of {len(recordings)} recordings; train it longer")
    return sum(finite) / len(finite)


def store_confidence(path: str | os.PathLike, value: float, model: RoutedModel) -> None:
    """Write a route's usual confidence into its pack, among the metrics of its validation set; all else stays."""
    found = read_parts(path).description
    backbone, fingerprint = model.backbone_for(found.meta.whole, str(path))
    pack = read_pack(path, backbone, fingerprint=fingerprint)
    write_pack(path, with_confidence(pack, value), codec=found.codec, backbone=backbone)


def identify(
    model: RoutedModel,
    sets: Mapping[str, Sequence[Utterance]],
    rankings: Mapping[str, Ranking],
    options: BatchOptions | None = None,
) -> dict[str, Identified]:
    """Guess the language of recordings whose language is known.

    Args:
        sets: language (a route) -> recordings; all routes of the model are candidates for each.
        rankings: name -> a way to compare confidences; all on the same forward passes.

    Returns:
        name -> what it gave.
    """
    routes = model.transcribing
    for lang in sets:
        model.text_head(lang)
    counts = {name: {lang: dict.fromkeys(routes, 0) for lang in sets} for name in rankings}
    started = time.perf_counter()
    for lang, recordings in sets.items():
        for _, heard in hear(model, recordings, routes, options):
            for name, ranking in rankings.items():
                counts[name][lang][guess(heard, ranking)] += 1
    seconds = time.perf_counter() - started
    audio = sum(utt.duration for recordings in sets.values() for utt in recordings)
    return {name: Identified(found, seconds, audio, len(routes)) for name, found in counts.items()}


def identify_by_classifier(
    upstream: Upstream,
    sets: Mapping[str, Sequence[Utterance]],
    classifier: LanguageClassifier,
    among: Sequence[str] | None = None,
    options: BatchOptions | None = None,
) -> Identified:
    """The same by a classifier, which needs no routes.

    Args:
        among: the languages that each recording could be of; by default all that the classifier knows.

    Raises:
        ConfigError: a language that it does not know, or that is not among these.
        PackError: it is for another backbone.
    """
    among = classifier.check(among or classifier.languages)
    if odd := [lang for lang in classifier.check(list(sets)) if lang not in among]:
        raise ConfigError(f"test sets of {', '.join(odd)}, which is not among the languages {', '.join(among)}")
    classifier.check_backbone(upstream)
    counts = {lang: dict.fromkeys(among, 0) for lang in sets}
    started = time.perf_counter()
    for lang, recordings in sets.items():
        for _, features in pooled_recordings(upstream, recordings, classifier.layers, options or BatchOptions()):
            for found in classifier.log_probs(features[:, -1], among):
                counts[lang][next(iter(found))] += 1
    seconds = time.perf_counter() - started
    audio = sum(utt.duration for recordings in sets.values() for utt in recordings)
    return Identified(counts, seconds, audio, 1 + classifier.layers / len(upstream.anatomy.layers))


@torch.inference_mode()
def cost_in_passes(
    upstream: RoutedUpstream, recordings: Sequence[Utterance], layers: int, options: BatchOptions | None = None
) -> float:
    """Time of the first layers and then a whole pass, divided by that of a whole pass alone; on 20 batches at most.

    Both are of the bare backbone. The first two share the front end, as they do in transcription.
    """
    options = options or BatchOptions()
    read = WaveReader(recordings, upstream.anatomy.receptive_field)
    batches = plan_batches([min(utt.duration, options.max_seconds) for utt in recordings], options.batch_seconds)
    times = [0.0, 0.0]
    device = next(upstream.parameters()).device
    for batch in batches[:: -(-len(batches) // 20)]:
        waves = [read(index)[: round(options.max_seconds * SAMPLE_RATE)] for index in batch]
        wavs = [torch.from_numpy(wave).to(device) for wave in waves]
        for both in (True, False):
            started = time.perf_counter()
            with upstream.remembering_front_end(), torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                if both:
                    upstream.first_layers(wavs, layers)
                upstream(wavs, routes=[None] * len(wavs))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[not both] += time.perf_counter() - started
    return times[0] / times[1]


def guess(heard: Mapping[str, Hypothesis], ranking: Ranking) -> str:
    """The route that comes first."""
    return next(iter(ranking.scores(heard)))


def table(found: Identified) -> list[str]:
    """Markdown: a row for each true language, a column for each guess."""
    routes = list(next(iter(found.counts.values())))
    lines = ["| spoken | " + " | ".join(routes) + " | right % |", "|---|" + "---:|" * (len(routes) + 1)]
    for lang, row in found.counts.items():
        cells = " | ".join(str(row[route]) for route in routes)
        lines.append(f"| {lang} | {cells} | {100 * found.accuracy_of(lang):.1f} |")
    return lines
