"""Recordings that a user names: audio files, folders of them, ``wav.scp`` files, Kaldi data directories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from s3router.data.audio import duration, file_of, is_pipe
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import DataError

SUFFIXES = frozenset(
    (
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".mp4",
        ".webm",
        ".aac",
        ".wma",
        ".aif",
        ".aiff",
        ".sph",
        ".gsm",
        ".g722",
    )
)
"""Suffixes of audio files in a folder; a file that is named itself may have any."""


def find_recordings(paths: Sequence[str | os.PathLike], bad: list[str] | None = None) -> list[Utterance]:
    """All recordings behind `paths`, in their order, with durations (from the headers where they say it).

    - a folder with a ``wav.scp`` is a Kaldi data directory (its ``segments`` count, its ``text`` need not be there);
    - another folder stands for the audio files in it and below, by name;
    - a file called ``*.scp`` holds ids and sources, as ``wav.scp`` does, in any order;
    - anything else is a recording: a file, or any other source that `s3router.data.audio` reads. Its id is its name.

    Args:
        bad: given, it gets what is wrong with recordings, which are left out then.

    Raises:
        DataError: every recording that is missing or cannot be read, in one message.
    """
    found, problems = [], [] if bad is None else bad
    for path in paths:
        try:
            found += _behind(os.fspath(path))
        except DataError as error:
            problems.append(str(error))
    utts = []
    for utt in found:
        try:
            _check_name(utt.source)
            utts.append(utt if utt.duration is not None else replace(utt, duration=duration(utt.source)))
        except DataError as error:
            problems.append(str(error))
    if problems and bad is None:
        raise problems_as_error(problems)
    return utts


def _check_name(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError:  # neither libsndfile nor the files of transcripts would take it
        raise DataError(f"{os.fsencode(source)!r}: its name is not UTF-8; rename it") from None
    if is_pipe(source) and os.path.exists(source):  # `transcribe *` must not run what files are called
        raise DataError(f"{source}: a file with the name of a command; rename it")


def problems_as_error(problems: Sequence[str]) -> DataError:
    """One error out of many; a single one keeps its own words."""
    return DataError(problems[0] if len(problems) == 1 else summary("recordings", problems))


def _behind(path: str) -> Iterator[Utterance]:
    if not path:  # which would be the current folder
        raise DataError("an empty path among the recordings; name a file or a folder")
    folder = Path(path)
    if folder.is_dir():
        if (folder / "wav.scp").is_file():
            yield from DataDir.read(folder, need_text=False).utts
            return
        files = sorted(
            p
            for p in folder.rglob("*")
            if p.suffix.lower() in SUFFIXES
            and not p.name.startswith("._")
            and p.is_file()  # of macOS, beside each file
        )
        if not files:
            raise DataError(f"{path}: neither audio files nor a wav.scp in this folder; name another")
        yield from (Utterance(str(file), str(file)) for file in files)
    elif folder.suffix == ".scp":
        yield from _scp(folder)
    else:
        file = file_of(path)
        if file is not None and not file.is_file():
            raise DataError(f"{file}: no such file; correct the path")
        yield Utterance(path, path)


def _scp(path: Path) -> Iterator[Utterance]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name a wav.scp") from None
    for number, line in enumerate(lines, 1):
        utt, *source = line.split(maxsplit=1) or [""]
        if not utt:
            continue
        if not source:
            raise DataError(f"{path}:{number}: expected an id and a source, found {line.strip()!r}")
        yield Utterance(utt, source[0].rstrip())
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: holds no recordings")
