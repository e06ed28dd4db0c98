"""A Common Voice release on disk: its languages, its tables of clips, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.corpora.sets import folder_of, read_text
from s3router.data.kaldi import summary
from s3router.errors import DataError

NEEDED = ("client_id", "path", "sentence")
"""Columns that every release has; the others (sentence_id, votes, accents …) come, go and change their names."""


@dataclass(frozen=True)
class Clip:
    """One row of a table: who read which sentence, and the file."""

    client: str
    path: Path
    sentence: str


def find_language(release: Path, lang: str) -> Path:
    """The folder of ``lang`` in a release (also given directly).

    Raises:
        DataError: no such folder or language, with the languages that are there; or clips or tables missing.
    """
    folder = folder_of(release, "an unpacked Common Voice release") / lang
    if not folder.is_dir():
        if release.name == lang and (release / "clips").is_dir():
            folder = release
        else:
            known = sorted(path.name for path in release.iterdir() if (path / "clips").is_dir())
            inner = sorted(path for path in release.glob("cv-corpus-*") if path.is_dir())
            hint = f"; perhaps {inner[0]} is meant" if inner else ""
            there = f"the languages there are: {', '.join(known)}" if known else f"no language there{hint}"
            raise DataError(f"{release}: no language {lang!r}; {there}. Name the folder that holds one for each")
    missing = [name for name in ("clips", "train.tsv", "dev.tsv", "test.tsv") if not (folder / name).exists()]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} missing; unpack the archive of {lang} again")
    return folder


def read_table(path: Path) -> list[Clip]:
    """Rows of one ``.tsv``, by the names in its header; quotation marks are text like any other.

    Raises:
        DataError: no such table, not UTF-8, a column or cells missing, a clip twice, or no rows.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such table; unpack the archive again")
    lines = read_text(path).split("\n")
    header = lines[0].rstrip("\r").split("\t")
    if missing := [name for name in NEEDED if name not in header]:
        raise DataError(f"{path}: no column {', '.join(missing)}; found {', '.join(header)}. Is it Common Voice's?")
    clients, names, sentences = (header.index(name) for name in NEEDED)
    clips, problems, seen = [], [], set()
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) <= max(clients, names, sentences):
            problems.append(f"line {number}: {len(cells)} cells, the header has {len(header)}")
            continue
        if cells[names] in seen:
            problems.append(f"line {number}: the clip {cells[names]} was listed before")
        seen.add(cells[names])
        clips.append(Clip(cells[clients], path.parent / "clips" / cells[names], cells[sentences]))
    if problems:
        raise DataError(summary(path, problems) + "\nunpack the archive again")
    if not clips:
        raise DataError(f"{path}: no clips in it; take another language, or another release of it")
    return clips


def with_files(clips: Sequence[Clip], table: Path) -> list[Clip]:
    """The same with the paths of the files (early releases leave out the ending ``.mp3``).

    Raises:
        DataError: files are missing, with their number and the first of them.
    """
    there = {path.name for path in (table.parent / "clips").iterdir()}
    found, missing = [], []
    for clip in clips:
        name = clip.path.name if clip.path.name in there else f"{clip.path.name}.mp3"
        if name in there:
            found.append(Clip(clip.client, clip.path.with_name(name), clip.sentence))
        else:
            missing.append(f"{clip.path}: missing")
    if missing:
        raise DataError(summary(table, missing) + "\nunpack the archive again; it was not unpacked to its end")
    return found


def without_speakers_of(clips: Sequence[Clip], others: Sequence[Clip]) -> list[Clip]:
    """Clips of speakers who are not among the ``others``."""
    known = {clip.client for clip in others}
    return [clip for clip in clips if clip.client not in known]
