"""What tasks of CTC do in their own way: texts of phonemes, letters, or letters with marks of slots.

A directory is a Kaldi one with ``text``. Phonemes are separated by blanks; a slot's words stand between marks, as in a
submission and in s3prl's decoding: ``PLAY B-artist BLUE NOTE E-artist NOW``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from s3router.data.kaldi import DataDir, summary
from s3router.data.slot_marks import unmarked
from s3router.data.utt2label import Label
from s3router.errors import DataError
from s3router.scoring import slots, wer
from s3router.superb.batches import Clips
from s3router.superb.labels import LabelledDir, too_short
from s3router.superb.tasks import Settings, TaskSpec
from s3router.upstreams.s3prl_engine import load

LABELS = "text"


def read(folder: str | os.PathLike, spec: TaskSpec) -> LabelledDir:
    """A directory with ``text``; of slot filling, marks must come in pairs.

    Raises:
        DataError: files that are missing or do not agree, texts without a word, marks that do not pair; all at once.
    """
    data, problems = DataDir.read(folder), []
    if spec.units == "character-slot":
        for u in data.utts:
            try:
                unmarked(u.text)
            except DataError as error:
                problems.append(f"{u.utt}: {error}")
    if problems:
        raise DataError(summary(folder, problems))
    return LabelledDir(data, {u.utt: (" ".join(u.text.split()),) for u in data.utts})


def inventory(given: Path | None, train: LabelledDir, spec: TaskSpec) -> list[list[str]]:
    """The units of the training texts, by s3prl's own function; of slot filling, in a second list, the slots."""
    texts = [text for (text,) in train.labels.values()]
    tags: list[str] = []
    if spec.units == "character-slot":
        texts, tags = map(list, zip(*map(unmarked, texts), strict=True))
    kind = "phoneme" if spec.units == "phoneme" else "character"
    units = load("s3prl.dataio.encoder.vocabulary").generate_vocab(kind, text_list=texts)
    if spec.units != "character-slot":
        return [units]
    return [units, sorted({tag for line in tags for tag in line.split()} - {"O"})]


def encoder(classes: list[list[str]], spec: TaskSpec) -> Any:
    """s3prl's tokenizer of these units."""
    tokenizers = load("s3prl.dataio.encoder.tokenizer")
    if spec.units == "character-slot":
        units, names = classes
        return tokenizers.CharacterSlotTokenizer(units, [f"{side}-{name}" for name in names for side in "BE"])
    kind = {"phoneme": tokenizers.PhonemeTokenizer, "character": tokenizers.CharacterTokenizer}[spec.units]
    return kind(classes[0])


def check(
    train: LabelledDir | None,
    others: Sequence[LabelledDir],
    classes: list[list[str]],
    receptive_field: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Refuse what cannot be trained or scored (a unit that training has not seen is s3prl's ``<unk>``, and no error).

    Args:
        receptive_field: samples that the upstream needs for one frame.

    Raises:
        DataError: slots that training has not seen, clips that are too short; all problems of a directory at once.
    """
    for part in (*([train] if train else []), *others):
        problems = too_short(part.data.utts, receptive_field, sample_rate)
        if len(classes) == 2:
            known = set(classes[1])
            for utt, (text,) in part.labels.items():
                if strange := sorted(set(unmarked(text)[1].split()) - known - {"O"}):
                    problems.append(f"{utt}: slot {', '.join(strange)} does not occur in the training texts")
        if problems:
            raise DataError(summary(part.data.path, problems))


class TextClips(Clips):
    """`Clips` with ``class_ids`` int64 (units) and ``labels``, the text as s3prl's metrics take it."""

    def item(self, index: int, x: torch.Tensor, x_len: int) -> dict:
        """What s3prl's task takes of utterance number ``index``."""
        utt = self.utts[index].utt
        (text,) = self.labels[utt]
        ids = self.encoder.encode(*unmarked(text)) if hasattr(self.encoder, "slots") else self.encoder.encode(text)
        return {"x": x, "x_len": x_len, "unique_name": utt, "labels": text, "class_ids": torch.tensor(ids)}


def clips(labelled: LabelledDir, encoder: Any, settings: Settings, max_seconds: float | None, seed: int) -> TextClips:
    """The utterances as s3prl's task takes them."""
    return TextClips(labelled, encoder, settings.gain_db, max_seconds, seed)


def sampler(train: LabelledDir, batch_size: int, settings: Settings, seed: int, spec: TaskSpec) -> Any:
    """s3prl's sampler of this task: batches of neighbours in length, shuffled."""
    lengths = [round(u.duration * 16000) for u in train.data.utts]
    made = getattr(load("s3prl.dataio.sampler"), spec.sampler)
    more = {"shuffle": True} if spec.sampler == "SortedBucketingSampler" else {}
    return made(lengths, batch_size, settings.halve_above or 300_000, seed=1_000_003 * seed, **more)


def figures(predictions: Sequence[Label], references: Sequence[Label], spec: TaskSpec) -> dict[str, float]:
    """The task's figures, as fractions: ``per``; ``wer`` and ``cer``; or ``slot_type_f1`` and ``slot_value_cer``."""
    found, wanted = [text for (text,) in predictions], [text for (text,) in references]
    if spec.units == "character-slot":
        scored = slots.score_slots(found, wanted)
        return {"slot_type_f1": scored.type_f1, "slot_value_cer": scored.value_cer}
    scored = wer.score(dict(enumerate(wanted)), dict(enumerate(found)))
    return {"per": scored.wer} if spec.units == "phoneme" else {"wer": scored.wer, "cer": scored.cer}
