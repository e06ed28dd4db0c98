"""Shared parts of the corpora: the result of a preparation, finding a corpus, reading lists, writing sets."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s3router.data.audio import SAMPLE_RATE, write_audio
from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import Label, write_labelled
from s3router.errors import DataError
from s3router.files import write_lines

ORDER = ("test", "dev", "train")
"""Sets are written in this order: a corpus whose training set is there is complete."""

StrPath = str | os.PathLike


@dataclass
class Prepared:
    """What a preparation has written.

    Attributes:
        sets: name -> Kaldi directory, in the order of writing.
        lines: a report for the screen.
        warnings: what the user should know before using the sets, one line each.
    """

    sets: dict[str, Path] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, folder: Path, contents: str) -> None:
        """Note a set that was written, and what is in it."""
        self.sets[folder.name] = folder
        self.lines.append(f"{folder}: {contents}")

    def compare(self, name: str, found: int, released: int) -> None:
        """Warn where the number of utterances is not that of the release."""
        if found != released:
            self.warnings.append(f"{name} has {found} utterances, the release {released}")


def training_set(folder: Path, subset: str) -> Path:
    """Where recipes look for this part of a training set: train for ``all`` of it, else train_SUBSET."""
    return folder / ("train" if subset == "all" else f"train_{subset}")


def progress[Item](items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The same items, with a progress bar on a terminal and nothing elsewhere."""
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, mininterval=1, leave=False, disable=None)


def folder_of(source: StrPath, corpus: str) -> Path:
    """``source`` as a path. Raises DataError where it is no folder."""
    source = Path(source)
    if not source.is_dir():
        what = "not a folder" if source.exists() else "no such folder"
        raise DataError(f"{source}: {what}; name the one that holds {corpus}")
    return source


def find_folder(source: StrPath, corpus: str, wanted: Sequence[str], inside: Sequence[str] = ()) -> Path:
    """The folder that holds everything ``wanted``: ``source``, or one of ``inside`` in it.

    Args:
        source: as the user named it.
        corpus: its name, for messages.
        wanted: files and folders, relative.
        inside: folders in which archives of this corpus put it.

    Raises:
        DataError: no such folder, another corpus, or an incomplete one; says what is missing.
    """
    source = folder_of(source, corpus)
    candidates = [source, *(source / name for name in inside)]
    missing = {folder: [name for name in wanted if not (folder / name).exists()] for folder in candidates}
    nearest = min(candidates, key=lambda folder: len(missing[folder]))
    if not missing[nearest]:
        return nearest
    if len(missing[nearest]) < len(wanted):
        raise DataError(f"{nearest}: {', '.join(missing[nearest])} missing; {corpus} has it: unpack the archives again")
    there = ", ".join(sorted(path.name for path in source.iterdir())[:10]) or "nothing"
    below = f" or in {inside[0]}/ under it" if inside else ""
    raise DataError(f"{source}: not {corpus} (there: {there}); expected {', '.join(wanted)} in it{below}")


def read_list(path: Path, pattern: str, form: str, origin: str) -> list[re.Match]:
    """One match for each line of a list.

    Args:
        path: the list.
        pattern: regular expression that every line matches as a whole, blanks around it aside.
        form: the same in words, for messages.
        origin: where the list comes from, for the message that it is missing.

    Raises:
        DataError: no such file, no lines, not UTF-8, or lines of another form.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: {origin}")
    lines = read_text(path).splitlines()
    found = [re.fullmatch(pattern, line.strip()) for line in lines]
    problems = [f"line {n} is not '{form}': {lines[n - 1]!r}" for n, match in enumerate(found, 1) if match is None]
    if problems or not found:
        raise DataError(summary(path, problems or ["the file is empty"]))
    return found


def read_text(path: Path) -> str:
    """The content of a file of a corpus. Raises DataError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); unpack the corpus again") from None


def read_csv(path: Path, columns: Sequence[str], origin: str) -> list[dict[str, str]]:
    """The rows of a table with a header.

    Args:
        path: the table.
        columns: names that the header must have.
        origin: what the table is, for messages.

    Raises:
        DataError: no such file, not UTF-8, no rows, or a column missing.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: expected {origin}")
    table = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if lacking := [name for name in columns if name not in (table.fieldnames or [])]:
        raise DataError(f"{path}: no column {', '.join(lacking)}: not {origin}")
    rows = list(table)
    if short := [number for number, row in enumerate(rows, 2) if any(row[name] is None for name in columns)]:
        raise DataError(f"{path}: row {short[0]} has fewer cells than the header; unpack the corpus again")
    if not rows:
        raise DataError(f"{path}: the table is empty; unpack the corpus again")
    return rows


def write_set(done: Prepared, folder: Path, utts: Sequence[Utterance], labels: Mapping[str, Label], what: str) -> None:
    """Write a labelled directory, and note it in ``done``."""
    write_labelled(folder, utts, labels)
    done.add(folder, what)


def write_untranscribed(done: Prepared, folder: Path, utts: Sequence[Utterance], what: str) -> None:
    """Write ``wav.scp`` and ``utt2spk`` alone, in the order given, and note the set in ``done``."""
    write_lines(folder / "utt2spk", (f"{u.utt} {u.speaker}" for u in utts))
    write_lines(folder / "wav.scp", (f"{u.utt} {u.source}" for u in utts))
    done.add(folder, what)


class Recordings:
    """A folder that recordings are written into, as 16-bit wav at 16 kHz.

    Args:
        folder: created if missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, utt: str, samples: np.ndarray, speaker: str, text: str = "") -> Utterance:
        """Write float samples, full scale ±1, and describe them as an utterance."""
        path = self.folder / f"{utt}.wav"
        write_audio(path, samples, SAMPLE_RATE)
        return Utterance(utt, str(path), text, speaker, len(samples) / SAMPLE_RATE)

    def add_int16(self, utt: str, samples: np.ndarray, speaker: str) -> Utterance:
        """Write 16-bit samples as they are."""
        return self.add(utt, samples / 32768.0, speaker)
