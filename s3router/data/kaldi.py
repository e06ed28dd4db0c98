"""Kaldi-style data directories: ``wav.scp``, ``text`` and, where there, ``segments``, ``utt2spk``, ``utt2dur``."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3router.data.audio import SAMPLE_RATE, Seconds, duration, file_of, is_in_archive, join_stretch
from s3router.errors import DataError
from s3router.files import clean_unfinished, write_lines

SHOWN = 20
"""Problems listed in one error; the rest is counted."""


@dataclass(frozen=True)
class Utterance:
    """One utterance.

    Attributes:
        utt: id.
        source: what `s3router.data.audio.read_audio` takes.
        text: transcript; "" in a directory read without transcripts.
        speaker: from utt2spk, else the utterance's id (Kaldi's convention for unknown speakers).
        duration: seconds, or None where neither utt2dur nor segments says it (see `DataDir.with_durations`).
    """

    utt: str
    source: str
    text: str = ""
    speaker: str = ""
    duration: Seconds | None = None


@dataclass(frozen=True)
class DataDir:
    """The utterances of one directory, sorted by id."""

    path: Path
    utts: list[Utterance] = field(repr=False)

    @classmethod
    def read(cls, path: str | os.PathLike, need_text: bool = True) -> DataDir:
        """Read a directory and check that its files agree; audio is not opened (see `s3router.data.validate`).

        Raises:
            DataError: every problem found, in one message.
        """
        utts, problems = scan(path, need_text)
        if problems:
            raise DataError(summary(path, problems))
        return cls(Path(path), utts)

    def write(self, path: str | os.PathLike) -> DataDir:
        """Write ``wav.scp``, ``utt2spk``, ``spk2utt`` and, where they are known, ``text`` and ``utt2dur``, sorted.

        Each file is whole or absent, and ``wav.scp`` comes last: a directory that has it is complete. Segments are
        written into it as ``source#t=start,end``, which this package reads; `s3router.data.format_wav` cuts them out.

        Raises:
            DataError: two utterances have one id; nothing is written then.
        """
        path = Path(path)
        utts = sorted(self.utts, key=lambda u: u.utt)
        if twice := [a.utt for a, b in itertools.pairwise(utts) if a.utt == b.utt]:
            raise DataError(
                f"{path}: not written: {len(twice)} utterances have an id that another one has, first {twice[0]}; "
                "ids must be unique"
            )
        path.mkdir(parents=True, exist_ok=True)
        clean_unfinished(path)
        for name in ("wav.scp", "segments", "utt2dur"):  # of an earlier content
            (path / name).unlink(missing_ok=True)
        speakers: dict[str, list[str]] = {}
        for u in utts:
            speakers.setdefault(u.speaker or u.utt, []).append(u.utt)
        files = {}
        if any(u.text for u in utts) or not utts:  # a set that is left without utterances has its file, too
            files["text"] = [f"{u.utt} {u.text}" for u in utts]
        else:
            (path / "text").unlink(missing_ok=True)
        files["utt2spk"] = [f"{u.utt} {u.speaker or u.utt}" for u in utts]
        files["spk2utt"] = [f"{s} {' '.join(ids)}" for s, ids in sorted(speakers.items())]
        if all(u.duration is not None for u in utts):
            files["utt2dur"] = [f"{u.utt} {u.duration:.3f}" for u in utts]
        files["wav.scp"] = [f"{u.utt} {u.source}" for u in utts]
        for name, lines in files.items():
            write_lines(path / name, lines)
        return DataDir(path, utts)

    def with_durations(self) -> DataDir:
        """The same with every duration known; audio headers (for pipes and archives the audio) are read."""
        filled = [u if u.duration is not None else replace(u, duration=duration(u.source)) for u in self.utts]
        return DataDir(self.path, filled)

    def subset(self, minutes: float) -> DataDir:
        """About ``minutes`` of it: the utterances in the order of their ids' SHA-256, up to the nearest total.

        Always a prefix of that order, so smaller subsets lie inside larger ones, and nothing is passed over.

        Raises:
            DataError: there is less than that.
        """
        filled, wanted = self.with_durations(), minutes * 60
        if not 0 < wanted <= filled.seconds:
            raise DataError(
                f"{self.path}: {minutes:g} minutes wanted, it has {filled.seconds / 60:.2f}; ask for less, or use all"
            )
        chosen, total = [], 0.0
        for u in sorted(filled.utts, key=lambda u: hashlib.sha256(u.utt.encode()).digest()):
            if chosen and abs(total + u.duration - wanted) > abs(total - wanted):
                break
            chosen.append(u)
            total += u.duration
        return DataDir(self.path, sorted(chosen, key=lambda u: u.utt))

    @property
    def seconds(self) -> Seconds:
        """Total length; utterances of unknown length raise DataError."""
        if unknown := [u.utt for u in self.utts if u.duration is None]:
            raise DataError(f"{self.path}: no duration known for {len(unknown)} utterances, first {unknown[0]}")
        return sum(u.duration for u in self.utts)


def summary(where: str | os.PathLike, problems: Sequence[str]) -> str:
    """One message out of many problems."""
    listed = [f"\n  {problem}" for problem in problems[:SHOWN]]
    more = [f"\n  … and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return f"{where}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:" + "".join(listed + more)


def too_short(utts: Sequence[Utterance], samples: int, sample_rate: int = SAMPLE_RATE) -> list[str]:
    """Problems: utterances of fewer than ``samples`` samples, as far as durations are known.

    The one rule for every way to a prediction: training, decoding, ``superb-predict``, search, and routes in serving.
    """
    return [
        f"{u.utt}: {1000 * u.duration:.0f} ms, shorter than the {1000 * samples / sample_rate:.0f} ms that the model "
        "needs; take it out"
        for u in utts
        if u.duration is not None and round(u.duration * sample_rate) < samples
    ]


def scan(path: str | os.PathLike, need_text: bool = True) -> tuple[list[Utterance], list[str]]:
    """Read a directory as far as possible: (utterances that are complete, problems)."""
    path, problems = Path(path), []
    required = ["wav.scp", "text"] if need_text else ["wav.scp"]
    for name in required:
        if not (path / name).is_file():
            problems.append(f"{path / name}: no such file; a data directory needs {' and '.join(required)}")
    if problems:
        return [], problems
    tables = {
        name: _columns(path / name, problems) if (path / name).is_file() else {}
        for name in ("wav.scp", "text", "utt2spk", "utt2dur", "segments")
    }
    if None in tables.values():
        return [], problems  # all others would follow from it
    sources, texts, speakers, lengths, segments = tables.values()
    for recording, source in sources.items():
        file = file_of(source) if source else None
        if file is not None and not file.is_file():
            kind = "the archive" if is_in_archive(source) else "the recording"
            problems.append(
                f"wav.scp: {recording}: {kind} {file} is missing; correct the path (relative ones start from "
                f"{Path.cwd()}) or remove the line"
            )
    durations: dict[str, Seconds] = {}
    if (path / "segments").is_file():
        sources, durations = _segments(segments, sources, problems)
    if not sources:
        problems.append(f"{path / 'wav.scp'}: holds no recordings")
    for utt, value in lengths.items():
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if 0 <= seconds < math.inf:
            durations.setdefault(utt, seconds)
        else:
            problems.append(f"utt2dur: {utt}: {value!r} is not a number of seconds; correct it, or delete utt2dur")
    have = "segments" if (path / "segments").is_file() else "wav.scp"
    if need_text:
        problems += _one_sided("text", texts, have, sources, "a transcript without audio")
        problems += _one_sided(have, sources, "text", texts, "audio without a transcript")
        empty = [utt for utt, text in texts.items() if not text]
        problems += [f"text: {utt}: the transcript is empty; write it, or remove {utt}" for utt in empty]
    if speakers:
        problems += _one_sided(have, sources, "utt2spk", speakers, "an utterance without a speaker")
        problems += _one_sided("utt2spk", speakers, have, sources, "a speaker for an utterance without audio")
    utts = [
        Utterance(utt, source, texts.get(utt, ""), speakers.get(utt, utt), durations.get(utt))
        for utt, source in sorted(sources.items())
        if source and (texts.get(utt) or not need_text)
    ]
    return utts, problems


def _columns(path: Path, problems: list[str]) -> dict[str, str] | None:
    """id -> rest of the line, or None where the file is not text.

    Ids must come once and in C order (``LC_ALL=C sort``), as Kaldi and merges want it.
    """
    table: dict[str, str] = {}
    last, unsorted = "", None
    try:
        content = path.read_text(encoding="utf-8-sig")  # a byte order mark would be part of the first id
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        problems.append(
            f"{path}: line {number} is not UTF-8 ({error.reason}); convert it, as by iconv -f latin1 -t utf-8"
        )
        return None
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        key, *rest = line.strip().split(maxsplit=1)
        if key in table:
            problems.append(f"{path.name}:{number}: {key} appears on two lines; ids must be unique")
        elif key < last and unsorted is None:
            unsorted = f"{path.name}:{number}: not sorted ({key} after {last}); LC_ALL=C sort -o {path} {path}"
            problems.append(unsorted)
        table[key] = rest[0] if rest else ""
        if path.name == "wav.scp" and not rest:
            problems.append(f"wav.scp:{number}: {key} has no file; write its path, or remove the line")
        last = key
    return table


def _segments(
    segments: dict[str, str], sources: dict[str, str], problems: list[str]
) -> tuple[dict[str, str], dict[str, Seconds]]:
    cut, durations, open_ends = {}, {}, []
    for utt, rest in segments.items():
        parts = rest.split()
        try:
            recording, start, end = parts[0], float(parts[1]), float(parts[2])
        except (IndexError, ValueError):
            problems.append(f"segments: {utt}: expected 'utterance recording start end', found {rest!r}")
            continue
        if len(parts) > 3:
            problems.append(
                f"segments: {utt}: a channel ({' '.join(parts[3:])}) cannot be chosen here; "
                "remove it where the recording has one, else make a recording of each"
            )
        elif recording not in sources:
            problems.append(f"segments: {utt}: recording {recording} is not in wav.scp; add it or remove the line")
        elif end == -1:  # to the end of the recording, in Kaldi's extract-segments
            open_ends.append((utt, recording, start))
        elif not 0 <= start < end < math.inf:
            problems.append(f"segments: {utt}: starts at {start} s and ends at {end} s; correct the times")
        else:
            cut[utt], durations[utt] = join_stretch(sources[recording], start, end), end - start
    lengths = {}
    for utt, recording, start in open_ends:
        try:
            if recording not in lengths:
                lengths[recording] = duration(sources[recording])
        except DataError as error:
            problems.append(f"segments: {utt}: {error}")
            continue
        end = lengths[recording]
        if not 0 <= start < end:
            problems.append(f"segments: {utt}: starts at {start} s of a recording of {end:.2f} s; correct the times")
        else:
            cut[utt], durations[utt] = join_stretch(sources[recording], start, end), end - start
    return cut, durations


def _one_sided(name: str, ids: Iterable[str], other: str, others: dict[str, str], what: str) -> list[str]:
    alone = [utt for utt in ids if utt not in others]
    return [f"{name}: {utt}: {what} (not in {other}); add it to {other} or remove it" for utt in alone]
