"""Labelled Kaldi directories: ``wav.scp`` and, for classification, ``utt2label`` (`s3router.data.utt2label`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.data.kaldi import DataDir, summary
from s3router.data.utt2label import BETWEEN, Label
from s3router.errors import DataError
from s3router.files import read_utf8
from s3router.scoring.files import read_text


@dataclass(frozen=True)
class LabelledDir[Kept]:
    """The utterances of a directory, sorted by id, and the label of each; its type depends on the task's kind."""

    data: DataDir
    labels: dict[str, Kept]


def read_labels(path: str | os.PathLike, slots: int = 1) -> LabelledDir[Label]:
    """A directory with ``utt2label``; durations are filled in from the audio files' headers.

    Args:
        slots: number of parts of a label. A label of one part is one word; the parts of longer ones may hold blanks.

    Raises:
        DataError: files that are missing or disagree, labels of another form.
    """
    data = DataDir.read(path, need_text=False)
    labels = {
        utt: tuple(part.strip() for part in label.split(BETWEEN.strip()))
        for utt, label in read_text(Path(path) / "utt2label").items()
    }
    ids = {u.utt for u in data.utts}
    problems = [f"{utt} is in wav.scp, but has no label in utt2label" for utt in sorted(ids - labels.keys())]
    problems += [f"{utt} is in utt2label, but not in wav.scp" for utt in sorted(labels.keys() - ids)]
    problems += [f"{utt}: {wrong}" for utt, label in labels.items() if (wrong := _label_problem(label, slots))]
    if problems:
        raise DataError(summary(path, problems))
    return LabelledDir(data.with_durations(), {u.utt: labels[u.utt] for u in data.utts})


def _label_problem(label: Label, slots: int) -> str | None:
    whole = BETWEEN.join(label)
    if len(label) != slots:
        return f"label {whole!r} has {len(label)} parts, expected {slots}"
    if not all(label):
        return "a part of its label is empty"
    if slots == 1 and len(whole.split()) > 1:
        return (
            f"label {whole!r} has blanks; write one word, such as {'_'.join(whole.split()[:3])!r} (is it a transcript?)"
        )
    return None


def classes_of(labels: Iterable[Label]) -> list[list[str]]:
    """The classes of each slot, sorted, as s3prl's CategoryEncoder has them."""
    return [sorted(set(values)) for values in zip(*labels, strict=True)]


def read_classes(path: str | os.PathLike, slots: Sequence[str] = ("label",)) -> list[list[str]]:
    """A file of classes, one ``slot class`` per line (``label yes``, ``action change language``), slots in any order.

    Args:
        slots: their names, in the order of the result; the only slot may have any name.

    Raises:
        DataError: no such file, a class twice, other slots.
    """
    found: dict[str, list[str]] = {}
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a list of classes (one '<slot> <class>' per line)")
    for number, line in enumerate(read_utf8(path).splitlines(), 1):
        slot, _, name = line.strip().partition(" ")
        if not name:
            raise DataError(f"{path}: line {number} is not '<slot> <class>': {line!r}")
        if name in found.setdefault(slot, []):
            raise DataError(f"{path}: line {number}: {slot} {name} is listed twice")
        found[slot].append(name)
    if len(found) != len(slots) or (len(slots) > 1 and set(found) != set(slots)):
        raise DataError(f"{path}: {len(found)} slots ({', '.join(found)}), expected {len(slots)} ({', '.join(slots)})")
    return [sorted(found[name]) for name in (slots if len(slots) > 1 else found)]
