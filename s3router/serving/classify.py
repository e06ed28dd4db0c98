"""Classification by any number of routes on one resident backbone: of recordings, and of labelled directories."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3router.asr.ctc_decode import BatchOptions, plan_batches
from s3router.data.audio import Seconds
from s3router.data.kaldi import Utterance
from s3router.data.utt2label import Label
from s3router.errors import ConfigError
from s3router.files import write_json
from s3router.serving.reading import WaveReader
from s3router.serving.route_heads import ClassHead
from s3router.serving.routed_model import RoutedModel
from s3router.submission.tracks import method_of
from s3router.superb.classification import Classification
from s3router.superb.labels import LabelledDir
from s3router.superb.tasks import task


@dataclass(frozen=True)
class Classified:
    """What one route makes of one recording.

    Attributes:
        utt: its id.
        source: where it was read from.
        route: the task's name.
        seconds: length of the recording.
        labels: the most probable labels and their probabilities, the best first.
    """

    utt: str
    source: str
    route: str
    seconds: Seconds
    labels: tuple[tuple[Label, float], ...]


def classify(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Sequence[str],
    top: int = 1,
    options: BatchOptions | None = None,
    bad: dict[int, str] | None = None,
) -> Iterator[tuple[int, list[Classified]]]:
    """Classify recordings by each of `routes`.

    Args:
        model: from `s3router.serving.loading.load_routes`.
        recordings: with durations (`s3router.data.recordings.find_recordings`).
        routes: tasks that classify.
        top: labels for each recording and route, or all where there are fewer.
        options: batches and arithmetic; nothing is cut into chunks.
        bad: see `s3router.serving.reading.WaveReader`; what is in it is not yielded.

    Yields:
        (index in `recordings`, one result for each route), the longest recording first.

    Raises:
        ConfigError: unknown route, or one that transcribes, or none.
        DataError: a recording cannot be read or is too short for one frame.
    """
    if not routes:
        raise ConfigError("no route classifies here; s3router transcribe is for packs of speech recognition")
    heads = {route: model.class_head(route) for route in routes}
    for index, logits in _logits(model, recordings, heads, options, bad):
        utt = recordings[index]
        found = [
            Classified(utt.utt, utt.source, route, utt.duration, tuple(best_labels(heads[route], values, top)))
            for route, values in logits.items()
        ]
        yield index, found


def best_labels(head: ClassHead, logits: Tensor, top: int) -> list[tuple[Label, float]]:
    """(classes,) -> the `top` most probable labels, probabilities multiplied over slots."""
    found: list[tuple[Label, float]] = [((), 1.0)]
    for names, part in zip(head.classes, logits.split([len(names) for names in head.classes]), strict=True):
        slot = sorted(zip(names, part.double().softmax(0).tolist(), strict=True), key=lambda item: -item[1])[:top]
        pairs = (((*label, name), p * q) for (label, p), (name, q) in itertools.product(found, slot))
        found = heapq.nsmallest(top, pairs, key=lambda item: -item[1])  # stable: the first one of equals
    return found


def score_directory(
    model: RoutedModel,
    route: str,
    labelled: LabelledDir,
    output: Path,
    fold: int = 1,
    options: BatchOptions | None = None,
) -> dict[str, Any]:
    """Predict a labelled directory under one route, and score it.

    Args:
        labelled: from `read_directory`.
        output: gets what ``superb-predict`` writes: ``utt2label``, ``result.json`` and, for the benchmark's tasks, the
            file that a submission holds.
        fold: of emotion recognition, for that file's path.

    Returns:
        What ``result.json`` holds.

    Raises:
        DataError: audio that cannot be read.
    """
    head = model.class_head(route)
    kind = _kind(head)
    utts = labelled.data.utts
    labels: dict[str, Label] = {}
    for index, logits in _logits(model, utts, {route: head}, options):
        labels[utts[index].utt] = best_labels(head, logits[route], 1)[0][0]
    found = kind.predictions(labels, labelled)
    track = head.training_settings.get("track")
    result = {
        "task": kind.name,
        "method": method_of(head.training_settings),
        **({} if track is None else {"track": track}),
        "upstream": head.upstream,
        "data_dir": str(labelled.data.path),
        "n_utts": len(labelled.labels),
        **kind.metrics(found),
    }
    kind.write(found, output, fold)
    write_json(output / "result.json", result)
    return result


def read_directory(model: RoutedModel, route: str, folder: str | os.PathLike) -> LabelledDir:
    """A Kaldi directory with ``utt2label`` that fits the route, with durations.

    Raises:
        ConfigError: unknown route, or one that transcribes.
        DataError: labels that the pack does not know, clips that are too short, files that are missing or damaged.
    """
    head = model.class_head(route)
    kind = _kind(head)
    labelled = kind.read(folder)
    kind.check(None, [labelled], head.classes, model.receptive_field)
    return labelled


def _kind(head: ClassHead) -> Classification:
    """The task that trained a head. Raises ConfigError where this version does not know it."""
    kind = task(head.task)
    if not isinstance(kind, Classification):
        raise ConfigError(f"task {kind.name} is no utterance classification")
    return kind


def _logits(
    model: RoutedModel,
    recordings: Sequence[Utterance],
    routes: Mapping[str, ClassHead],
    options: BatchOptions | None,
    bad: dict[int, str] | None = None,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(index, route -> logits (classes,)) of every recording that is not bad, the longest first."""
    options = options or BatchOptions()
    read = WaveReader(recordings, model.receptive_field, bad)
    for batch in plan_batches([utt.duration for utt in recordings], options.batch_seconds):
        waves = [torch.from_numpy(read(index)).to(model.device) for index in batch]
        with torch.autocast(model.device.type, torch.bfloat16, enabled=options.bf16):
            found = {route: model.logits(waves, route) for route in routes}
        for row, index in enumerate(batch):
            if bad is None or index not in bad:
                yield index, {route: logits[row].cpu() for route, logits in found.items()}
