"""Utterance classification: one label per utterance, of one slot or several."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s3router.data.utt2label import BETWEEN, Label
from s3router.errors import DataError
from s3router.files import write_lines
from s3router.scoring.accuracy import score_labels
from s3router.superb.kind import Kind, Settings
from s3router.superb.labels import LabelledDir, classes_of, read_classes, read_labels
from s3router.upstreams.s3prl_engine import load


@dataclass(frozen=True)
class LabelPredictions:
    """Labels of a directory's utterances, in its order.

    Attributes:
        predicted: utterance -> predicted label, one string per slot.
        true: utterance -> true label.
    """

    predicted: dict[str, Label]
    true: dict[str, Label]


@dataclass(frozen=True)
class Classification(Kind[Label, LabelPredictions]):
    """A task of utterance classification.

    Attributes:
        slots: the parts of a label.
        balanced: whether training draws every class equally often. (s3prl draws the validation set in the same way,
            at random; its accuracy there estimates the mean recall of the classes, which selects here.)
        separator: the column separator of the submission's file.
    """

    labels: ClassVar[str] = "utt2label"
    linear_over_time: ClassVar[bool] = True

    metric: str = "accuracy"
    slots: tuple[str, ...] = ("label",)
    balanced: bool = False
    separator: str = " "

    def read(self, folder: str | os.PathLike) -> LabelledDir[Label]:
        return read_labels(folder, len(self.slots))

    def inventory(self, train: LabelledDir[Label], given: Path | None = None) -> list[list[str]]:
        return classes_of(train.labels.values()) if given is None else read_classes(given, self.slots)

    def label_problems(self, part: LabelledDir[Label], classes: list[list[str]], training: bool) -> list[str]:
        return class_problems(part, classes, training)

    def encoder(self, classes: list[list[str]]) -> Any:
        """s3prl's CategoryEncoder for one slot, or CategoryEncoders for several."""
        encoders = load("s3prl.dataio.encoder.category")
        return encoders.CategoryEncoder(classes[0]) if len(classes) == 1 else encoders.CategoryEncoders(classes)

    def clips(
        self,
        labelled: LabelledDir[Label],
        encoder: Any,
        settings: Settings,
        max_seconds: float | None = None,
        seed: int = 0,
    ) -> Any:
        import torch

        from s3router.superb.batches import Clips

        def target(utt: str) -> dict[str, Any]:
            label = labelled.labels[utt]
            if len(label) == 1:
                return {"class_id": encoder.encode(label[0]), "label": label[0]}
            return {"class_ids": torch.tensor(encoder.encode(list(label))), "labels": list(label)}

        return Clips(labelled, target, settings.gain_db, max_seconds, seed)

    def sampler(self, clips: Any, batch_size: int, settings: Settings, seed: int) -> Any:
        if not self.balanced:
            return super().sampler(clips, batch_size, settings, seed)
        names = [BETWEEN.join(clips.labelled.labels[utt.utt]) for utt in clips.utts]
        made = load("s3prl.dataio.sampler").BalancedWeightedSampler
        return made(names, batch_size, seed=1_000_003 * seed)

    def predictions(self, outputs: Mapping[str, Any], labelled: LabelledDir[Label]) -> LabelPredictions:
        found = {utt: outputs[utt] for utt in labelled.labels}
        labels = {utt: (value,) if isinstance(value, str) else tuple(value) for utt, value in found.items()}
        return LabelPredictions(labels, labelled.labels)

    def metrics(self, predictions: LabelPredictions) -> dict[str, Any]:
        """``accuracy`` with its 95 % interval, ``balanced_accuracy`` and the recalls of the classes."""
        score = score_labels(list(predictions.predicted.values()), list(predictions.true.values()))
        return {
            "accuracy": score.accuracy,
            "interval": list(score.interval()),
            "balanced_accuracy": score.balanced_accuracy,
            "recalls": {BETWEEN.join(label): value for label, value in sorted(score.recalls.items())},
        }

    def write(self, predictions: LabelPredictions, folder: Path, fold: int | None = None) -> None:
        """``utt2label``, and the submission's file.

        Raises:
            DataError: a label holds the separator of that file.
        """
        found = predictions.predicted
        write_lines(folder / self.labels, (f"{utt} {BETWEEN.join(label)}" for utt, label in found.items()))
        if self.folder:
            write_lines(folder / self.folder.format(fold=fold) / self.file, self.submission_lines(found))

    def submission_lines(self, predicted: Mapping[str, Label]) -> list[str]:
        """Lines of the submission's file, in the order of ids. Raises DataError where a label holds the separator."""
        rows = [(utt, *predicted[utt]) for utt in sorted(predicted)]
        if bad := [row for row in rows if any(self.separator in cell for cell in row)]:
            raise DataError(f"{self.file}: {bad[0]} contains the column separator {self.separator!r}; rename the label")
        return [self.separator.join(row) for row in rows]


def class_problems(part: LabelledDir[Label], classes: list[list[str]], training: bool) -> list[str]:
    """Labels outside the classes and, in training, classes without an utterance."""
    problems = []
    known = [set(names) for names in classes]
    for utt, label in part.labels.items():
        if strange := [value for value, names in zip(label, known, strict=True) if value not in names]:
            problems.append(f"{utt}: {', '.join(map(repr, strange))} is not in the list of classes")
    if training:
        counts = [Counter(values) for values in zip(*part.labels.values(), strict=True)]
        problems += [
            f"class {name!r} has no utterance; take it out of the list of classes, or find some"
            for names, count in zip(classes, counts, strict=True)
            for name in names
            if not count[name]
        ]
        if len(classes) == 1 and len(classes[0]) == 1:
            problems.append(f"{classes[0][0]!r} is the only class: nothing can be learnt")
    return problems
