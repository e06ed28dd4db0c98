"""What tasks of utterance classification do in their own way; `s3router.superb.sequences` has the same functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3router.data.utt2label import BETWEEN, Label
from s3router.scoring.accuracy import score_labels
from s3router.superb import labels
from s3router.superb.batches import Clips
from s3router.superb.labels import LabelledDir
from s3router.superb.tasks import Settings, TaskSpec
from s3router.upstreams.s3prl_engine import load

check = labels.check
LABELS = "utt2label"


def read(folder: str | os.PathLike, spec: TaskSpec) -> LabelledDir:
    """A directory with ``utt2label``."""
    return LabelledDir.read(folder, len(spec.slots))


def inventory(given: Path | None, train: LabelledDir, spec: TaskSpec) -> list[list[str]]:
    """The classes of each slot: those of the file that was given, or of the training labels."""
    return labels.classes_of(train.labels.values()) if given is None else labels.read_classes(given, len(spec.slots))


def encoder(classes: list[list[str]], spec: TaskSpec | None = None) -> Any:
    """s3prl's CategoryEncoder of one slot, or CategoryEncoders of several."""
    encoders = load("s3prl.dataio.encoder.category")
    return encoders.CategoryEncoder(classes[0]) if len(classes) == 1 else encoders.CategoryEncoders(classes)


def clips(labelled: LabelledDir, encoder: Any, settings: Settings, max_seconds: float | None, seed: int) -> Clips:
    """The utterances as s3prl's task takes them."""
    return Clips(labelled, encoder, settings.gain_db, max_seconds, seed)


def figures(predictions: Sequence[Label], references: Sequence[Label], spec: TaskSpec) -> dict[str, Any]:
    """What ``result.json`` and the training log say; floats are fractions."""
    score = score_labels(predictions, references)
    return {
        "accuracy": score.accuracy,
        "interval": list(score.interval()),
        "balanced_accuracy": score.balanced_accuracy,
        "recalls": {BETWEEN.join(label): value for label, value in sorted(score.recalls.items())},
    }
