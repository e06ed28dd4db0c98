"""NeMo's manifests: per line a JSON object with ``audio_filepath``, ``duration``, ``text``, ``offset`` of a stretch."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from s3router.data.audio import Seconds, duration, join_stretch, no_command, split_stretch
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import DataError
from s3router.files import write_lines

_SAME = (
    0.1  # s: a duration that lacks no more than this of the recording, as where it was rounded, is that of all of it
)


def read_manifest(path: str | os.PathLike) -> list[Utterance]:
    """The utterances of a manifest, in its order. Of the recordings, headers are read.

    As NeMo has it, a line without an offset means the recording's beginning where its duration is the shorter one. An
    id is what ``id`` says, else the file's stem, with the offset in milliseconds for stretches.

    Raises:
        DataError: it cannot be read; a line is no such object.
    """
    path, utts, problems = Path(path), [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # texts may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name a manifest in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                utts.append(_utterance(json.loads(line), path.parent))
            except (ValueError, TypeError, DataError) as error:
                problems.append(f"line {number}: {error}")
    if problems:
        raise DataError(summary(path, problems))
    return utts


def write_manifest(data: DataDir, path: str | os.PathLike) -> None:
    """Write a manifest, whole or not at all; utterances have durations, and sources that are files.

    Files in or below the manifest's folder are named from there, others by their whole path.
    """
    folder = Path(path).resolve().parent
    lines = []
    for utt in data.utts:
        source, start, _ = split_stretch(utt.source)
        place = Path(source).resolve()
        named = place.relative_to(folder) if place.is_relative_to(folder) else place
        entry: dict[str, Any] = {"audio_filepath": str(named), "duration": round(utt.duration, 5), "text": utt.text}
        entry |= {} if start is None else {"offset": start}
        entry |= {"id": utt.utt} | ({"speaker": utt.speaker} if utt.speaker else {})
        lines.append(json.dumps(entry, ensure_ascii=False))
    write_lines(path, lines)


def _utterance(entry: Any, folder: Path) -> Utterance:
    """Raises ValueError where the object lacks something."""
    if not isinstance(entry, dict) or not isinstance(entry.get("audio_filepath"), str):
        raise ValueError("expected an object with audio_filepath, duration and text")
    source = no_command(str((folder / entry["audio_filepath"]).absolute()), "audio_filepath")
    seconds, start = (None if entry.get(name) is None else float(entry[name]) for name in ("duration", "offset"))
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"duration {seconds:g}: seconds above 0 are needed")
    if start is not None and not (math.isfinite(start) and start >= 0):
        raise ValueError(f"offset {start:g}: seconds of 0 or more are needed")
    utt = Path(source).stem
    if start:
        if seconds is None:
            raise ValueError("an offset needs a duration")
        source, utt = join_stretch(source, start, start + seconds), f"{utt}-{round(1000 * start):07d}"
    elif seconds is not None and (start is not None or _is_longer(source, seconds)):  # the beginning
        source = join_stretch(source, 0.0, seconds)
    name = entry.get("id")
    name = utt if name is None or name == "" else str(name)
    return Utterance(name, source, str(entry.get("text") or ""), _speaker(entry), seconds)


def _is_longer(source: str, seconds: Seconds) -> bool:
    """Whether the recording goes on after so many seconds; one that cannot be read is named where it is needed."""
    with contextlib.suppress(DataError):
        return duration(source) > seconds + _SAME
    return False


def _speaker(entry: dict[str, Any]) -> str:
    speaker = entry.get("speaker")
    return "" if speaker is None else "_".join(str(speaker).split())
