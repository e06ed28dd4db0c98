"""Sequence tasks with CTC: texts of phonemes, letters, or letters with marked slots.

A directory is a Kaldi one with ``text``. Phonemes are separated by blanks; slots are marked
as `s3router.data.slot_marks` describes.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s3router.data.audio import SAMPLE_RATE
from s3router.data.kaldi import DataDir, summary
from s3router.data.slot_marks import unmarked
from s3router.errors import DataError
from s3router.files import write_lines
from s3router.scoring import slots, wer
from s3router.superb.kind import Kind, Settings
from s3router.superb.labels import LabelledDir
from s3router.upstreams.s3prl_engine import load

PHONEMES, LETTERS, SLOTS = "phoneme", "character", "character-slot"
"""s3prl's vocabularies."""


@dataclass(frozen=True)
class TextPredictions:
    """Texts of a directory's utterances, in its order: utterance -> units separated by blanks."""

    predicted: dict[str, str]
    true: dict[str, str]


@dataclass(frozen=True)
class Sequences(Kind[str, TextPredictions]):
    """A task with CTC.

    Attributes:
        units: `PHONEMES`, `LETTERS` or `SLOTS`.
        batches: s3prl's sampler, which makes batches of neighbours in length.
    """

    labels: ClassVar[str] = "text"
    ctc: ClassVar[bool] = True

    file: str = "predict.ark"
    units: str = LETTERS
    batches: str = "SortedSliceSampler"

    def option_problems(self, options: Namespace) -> list[str]:
        found = []
        if options.max_seconds:
            found.append("--max-seconds: a cropped utterance would not hold all of its text; leave it out")
        if options.classes is not None:
            found.append(f"--classes: the units of {self.name} come from the texts; leave it out")
        if options.batch_size < 2:
            found.append("--batch-size must be 2 or more: batches of long utterances are half as large")
        return found

    def read(self, folder: str | os.PathLike) -> LabelledDir[str]:
        """A directory with ``text``; with slots, marks must come in pairs."""
        data, problems = DataDir.read(folder), []
        for utt in data.utts if self.units == SLOTS else ():
            try:
                unmarked(utt.text)
            except DataError as error:
                problems.append(f"{utt.utt}: {error}")
        if problems:
            raise DataError(summary(folder, problems))
        return LabelledDir(data.with_durations(), {utt.utt: " ".join(utt.text.split()) for utt in data.utts})

    def inventory(self, train: LabelledDir[str], given: Path | None = None) -> list[list[str]]:
        """The units of the training texts, by s3prl's own function; with slots, their names in a second list."""
        texts, tags = list(train.labels.values()), []
        if self.units == SLOTS:
            texts, tags = map(list, zip(*map(unmarked, texts), strict=True))
        kind = PHONEMES if self.units == PHONEMES else LETTERS
        units = load("s3prl.dataio.encoder.vocabulary").generate_vocab(kind, text_list=texts)
        if self.units != SLOTS:
            return [units]
        return [units, sorted({tag for line in tags for tag in line.split()} - {"O"})]

    def label_problems(self, part: LabelledDir[str], classes: list[list[str]], training: bool) -> list[str]:
        """Slots that training has not seen; a unit that it has not seen is s3prl's ``<unk>``, and no error."""
        problems = []
        for utt, text in part.labels.items() if self.units == SLOTS else ():
            if strange := sorted(set(unmarked(text)[1].split()) - set(classes[1]) - {"O"}):
                problems.append(f"{utt}: slot {', '.join(strange)} does not occur in the training texts")
        return problems

    def encoder(self, classes: list[list[str]]) -> Any:
        """s3prl's tokenizer of these units."""
        tokenizers = load("s3prl.dataio.encoder.tokenizer")
        if self.units == SLOTS:
            units, names = classes
            return tokenizers.CharacterSlotTokenizer(units, [f"{side}-{name}" for name in names for side in "BE"])
        made = {PHONEMES: tokenizers.PhonemeTokenizer, LETTERS: tokenizers.CharacterTokenizer}
        return made[self.units](classes[0])

    def clips(
        self,
        labelled: LabelledDir[str],
        encoder: Any,
        settings: Settings,
        max_seconds: float | None = None,
        seed: int = 0,
    ) -> Any:
        import torch

        from s3router.superb.batches import Clips

        def target(utt: str) -> dict[str, Any]:
            text = labelled.labels[utt]
            ids = encoder.encode(*(unmarked(text) if self.units == SLOTS else (text,)))
            return {"labels": text, "class_ids": torch.tensor(ids)}

        return Clips(labelled, target, settings.gain_db, max_seconds, seed)

    def sampler(self, clips: Any, batch_size: int, settings: Settings, seed: int) -> Any:
        lengths = [round(utt.duration * SAMPLE_RATE) for utt in clips.utts]
        made = getattr(load("s3prl.dataio.sampler"), self.batches)
        more = {"shuffle": True} if self.batches == "SortedBucketingSampler" else {}
        return made(lengths, batch_size, settings.halve_above or 300_000, seed=1_000_003 * seed, **more)

    def predictions(self, outputs: Mapping[str, Any], labelled: LabelledDir[str]) -> TextPredictions:
        return TextPredictions({utt: outputs[utt] for utt in labelled.labels}, labelled.labels)

    def metrics(self, predictions: TextPredictions) -> dict[str, float]:
        """``per``; ``wer`` and ``cer``; or ``slot_type_f1`` and ``slot_value_cer``."""
        if self.units == SLOTS:
            scored = slots.score_slots(list(predictions.predicted.values()), list(predictions.true.values()))
            return {"slot_type_f1": scored.type_f1, "slot_value_cer": scored.value_cer}
        scored = wer.score(predictions.true, predictions.predicted)
        return {"per": scored.wer} if self.units == PHONEMES else {"wer": scored.wer, "cer": scored.cer}

    def write(self, predictions: TextPredictions, folder: Path, fold: int | None = None) -> None:
        """``text``, and the submission's file."""
        write_lines(folder / self.labels, (f"{utt} {text}" for utt, text in predictions.predicted.items()))
        if self.folder:
            write_lines(folder / self.folder / self.file, submission_lines(predictions.predicted))


def submission_lines(predicted: Mapping[str, str]) -> list[str]:
    """Lines of the submission's file, in the order of ids; the text is the rest of the line, and may be empty."""
    return [" ".join(f"{utt} {predicted[utt]}".split()) for utt in sorted(predicted)]
