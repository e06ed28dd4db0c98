"""Conversion of any data directory into one that ESPnet's ``sound`` type reads.

ESPnet opens the second column of ``wav.scp`` with soundfile: no pipes, no archives, no segments, no resampling. Files
that are already mono wav or flac at 16 kHz are passed through as absolute paths; everything else is decoded, once, to
``wav/*.flac`` in the new directory. Utterances that cannot be used (too long, too short, more tokens than frames) are
left out and listed, with the reason, in ``left_out.tsv``. Labels, turns and trials of what is left go along.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from s3router.data.audio import (
    SAMPLE_RATE,
    Seconds,
    cut,
    file_of,
    is_in_archive,
    probe,
    read_native,
    resample,
    split_stretch,
    write_audio,
)
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.threads import threads
from s3router.data.tokens import TokenIds
from s3router.data.validate import misfit
from s3router.errors import DataError
from s3router.files import UNFINISHED, clean_unfinished, write_lines

_BESIDE = {"utt2label": (0,), "rttm": (1,), "trials": (1, 2)}
"""Further files of a directory, and the columns of a line that name utterances."""


@dataclass(frozen=True)
class Formatted:
    """The result: the directory written, and (utterance, reason) of what it lacks."""

    data: DataDir
    left_out: list[tuple[str, str]]


def format_dir(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    tokens: TokenIds | None = None,
    need_text: bool = True,
    max_seconds: Seconds | None = None,
    min_frames: int = 1,
    sample_rate: int = SAMPLE_RATE,
    nj: int = 1,
    progress: bool = False,
) -> Formatted:
    """Write ``target``; interrupted and called again, it goes on with what is missing.

    Args:
        source, target: data directories; they must differ.
        tokens, max_seconds, min_frames: what is left out, see `s3router.data.validate.misfit`.
        need_text: False for a directory without ``text``.
        sample_rate: of every file in the result, Hz.
        nj: threads.
        progress: a progress bar on a terminal.

    Raises:
        DataError: the directory or its audio is broken (all problems), or nothing is left. ``wav.scp`` is then not
            written.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: input and output are the same directory; name another output")
    data = DataDir.read(source, need_text)
    (target / "wav").mkdir(parents=True, exist_ok=True)
    (target / "wav.scp").unlink(missing_ok=True)
    recordings: dict[str, list[Utterance]] = {}
    for u in data.utts:
        recordings.setdefault(split_stretch(u.source)[0], []).append(u)
    done, problems = [], []
    with threads(nj) as pool:
        jobs = [pool.submit(_format_recording, *item, target / "wav", sample_rate) for item in recordings.items()]
        for job in _bar(as_completed(jobs), len(jobs), target.name, progress):
            try:
                done += job.result()
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError(summary(source, sorted(problems)))
    kept, left_out = [], []
    for u in sorted(done, key=lambda u: u.utt):
        reason = misfit(u, tokens, max_seconds, min_frames)
        if reason:
            left_out.append((u.utt, reason))
        else:
            kept.append(u)
    if not kept:
        raise DataError(f"{source}: nothing is left, e.g. {left_out[0][0]}: {left_out[0][1]}; check the limits")
    _write_left_out(target / "left_out.tsv", left_out)
    used = {u.source for u in kept}
    clean_unfinished(target / "wav")
    for path in (target / "wav").iterdir():  # of an earlier input
        if os.fspath(path.resolve()) not in used and not path.match(UNFINISHED):
            path.unlink()
    _write_beside(source, target, {u.utt for u in kept})
    return Formatted(DataDir(target, kept).write(target), left_out)


def _format_recording(source: str, utts: list[Utterance], folder: Path, rate: int) -> list[Utterance]:
    """The utterances of one recording with their new source and duration; decodes at most once."""
    seconds = as_is(source, rate) if any(u.source == source for u in utts) else None
    state = ""
    if file := file_of(source):
        status = file.stat()
        state = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
    done, whole = [], None
    for u in utts:
        if u.source == source and seconds is not None:
            done.append(replace(u, source=os.path.abspath(source), duration=seconds))
            continue
        digest = hashlib.sha256(f"{u.source}\n{state}\n{rate}".encode()).hexdigest()[:12]
        # file names end at 255 bytes, and a Cyrillic letter takes six; the digest alone tells files apart
        path = (folder / f"{urllib.parse.quote(u.utt, safe='')[:200]}.{digest}.flac").resolve()
        if not path.is_file():
            if whole is None:
                whole = read_native(source)
            samples, native = whole
            _, start, end = split_stretch(u.source)
            if start is not None:
                samples = cut(samples, native, start, end, source)
            write_audio(path, samples if native == rate else resample(samples, native, rate), rate)
        done.append(replace(u, source=os.fspath(path), duration=probe(path).seconds))
    return done


def as_is(source: str, rate: int) -> Seconds | None:
    """Seconds of a file that ESPnet reads as it is (mono wav or flac at ``rate``), else None.

    Raises:
        DataError: it cannot be read.
    """
    if file_of(source) is None or is_in_archive(source):
        return None
    found = probe(source)
    if found.format not in ("WAV", "FLAC") or found.channels != 1 or found.rate != rate:
        return None
    if not found.whole_numbers:
        read_native(source)  # refuses what are no numbers
    return found.seconds


def _write_beside(source: Path, target: Path, kept: set[str]) -> None:
    """The lines of these files that name what is kept alone; what an earlier input had and this one lacks goes."""
    for name, columns in _BESIDE.items():
        try:
            lines = (source / name).read_text(encoding="utf-8-sig").split("\n")
        except FileNotFoundError:
            (target / name).unlink(missing_ok=True)
            continue
        except UnicodeDecodeError as error:
            raise DataError(f"{source / name}: cannot be read ({error}); write it in UTF-8") from None
        words = ((line, line.split()) for line in lines)
        good = [line for line, row in words if len(row) > columns[-1] and kept.issuperset(row[n] for n in columns)]
        if good:
            write_lines(target / name, good)
        else:  # as turns of whole recordings where segments were cut out
            (target / name).unlink(missing_ok=True)


def _write_left_out(path: Path, rows: list[tuple[str, str]]) -> None:
    write_lines(path, (f"{utt}\t{reason}" for utt, reason in [("utterance", "reason"), *rows]))


def _bar(jobs, total: int, name: str, progress: bool):
    if not progress:
        return jobs
    from tqdm import tqdm

    return tqdm(jobs, total=total, desc=name, unit="file", disable=None)  # None: silent where there is no terminal
