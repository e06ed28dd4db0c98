"""Reading and checking of labelled Kaldi directories: ``wav.scp`` and `s3router.data.utt2label`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.utt2label import BETWEEN, Label
from s3router.errors import DataError
from s3router.scoring.files import read_text


@dataclass(frozen=True)
class LabelledDir:
    """A directory's utterances, sorted by id, and the label of each."""

    data: DataDir
    labels: dict[str, Label]

    @classmethod
    def read(cls, path: str | os.PathLike, slots: int = 1) -> LabelledDir:
        """Read a directory; audio is not opened.

        Raises:
            DataError: files that are missing or do not agree, labels of another number of slots.
        """
        data = DataDir.read(path, need_text=False)
        labels = {
            utt: tuple(part.strip() for part in label.split(BETWEEN.strip()))
            for utt, label in read_text(Path(path) / "utt2label").items()
        }
        ids = {u.utt for u in data.utts}
        problems = [f"{utt} is in wav.scp, but has no label in utt2label" for utt in sorted(ids - labels.keys())]
        problems += [f"{utt} is in utt2label, but not in wav.scp" for utt in sorted(labels.keys() - ids)]
        problems += [
            f"{utt}: label {BETWEEN.join(label)!r} has {len(label)} parts, expected {slots}"
            if len(label) != slots
            else f"{utt}: a part of its label is empty"
            for utt, label in labels.items()
            if len(label) != slots or not all(label)
        ]
        if problems:
            raise DataError(summary(path, problems))
        return cls(data, {u.utt: labels[u.utt] for u in data.utts})


def classes_of(labels: Iterable[Label]) -> list[list[str]]:
    """The classes of each slot, sorted, as s3prl's CategoryEncoder has them."""
    return [sorted(set(values)) for values in zip(*labels, strict=True)]


def read_classes(path: str | os.PathLike, slots: int = 1) -> list[list[str]]:
    """A file of classes, ``slot class`` a line: ``label yes``, ``action change language``. Slots as they come.

    Raises:
        DataError: no such file, a class twice, another number of slots.
    """
    found: dict[str, list[str]] = {}
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a list of classes ('<slot> <class>' a line)")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        slot, _, name = line.strip().partition(" ")
        if not name:
            raise DataError(f"{path}: line {number} is not '<slot> <class>': {line!r}")
        if name in found.setdefault(slot, []):
            raise DataError(f"{path}: line {number}: {slot} {name} comes a second time")
        found[slot].append(name)
    if len(found) != slots:
        raise DataError(f"{path}: {len(found)} slots ({', '.join(found)}), expected {slots}")
    return [sorted(names) for names in found.values()]


def check(
    train: LabelledDir | None,
    others: Sequence[LabelledDir],
    classes: Sequence[Sequence[str]],
    receptive_field: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Refuse, before training, what it could not learn from or would score in vain.

    Args:
        train: its labels must be of `classes`, and every class must have an utterance; None: there is none.
        others: their labels must be of `classes`.
        classes: of each slot.
        receptive_field: samples that the upstream needs for one frame; shorter clips are problems. Durations must
            be known (`DataDir.with_durations`).

    Raises:
        DataError: all problems of a directory at once.
    """
    for part in (*([train] if train else []), *others):
        problems = []
        known = [set(names) for names in classes]
        for utt, label in part.labels.items():
            strange = [value for value, names in zip(label, known, strict=True) if value not in names]
            if strange:
                problems.append(f"{utt}: {', '.join(map(repr, strange))} is not in the list of classes")
        if part is train:
            counts = [Counter(values) for values in zip(*train.labels.values(), strict=True)]
            problems += [
                f"class {name!r} has no utterance; take it out of the list of classes, or find some"
                for names, count in zip(classes, counts, strict=True)
                for name in names
                if not count[name]
            ]
            if len(classes) == 1 and len(classes[0]) == 1:
                problems.append(f"{classes[0][0]!r} is the only class: nothing can be learnt")
        problems += too_short(part.data.utts, receptive_field, sample_rate)
        if problems:
            raise DataError(summary(part.data.path, problems))


def too_short(utts: Sequence[Utterance], receptive_field: int, sample_rate: int = 16000) -> list[str]:
    """Problems: utterances that give the upstream not a single frame."""
    least = receptive_field / sample_rate
    return [
        f"{u.utt}: {1000 * u.duration:.0f} ms, shorter than {1000 * least:.0f} ms, which one frame of the upstream "
        "needs; take it out"
        for u in utts
        if u.duration is not None and round(u.duration * sample_rate) < receptive_field
    ]
