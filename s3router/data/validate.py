"""Checks of a data directory: every problem is found and named before anything expensive starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3router.data.audio import SAMPLE_RATE, Seconds, file_of, read_native, split_stretch
from s3router.data.kaldi import DataDir, Utterance, scan
from s3router.data.threads import threads
from s3router.data.tokens import TokenIds, min_ctc_frames
from s3router.errors import DataError

FRAME_SHIFT, FRAME_WINDOW = 320, 400
"""Samples at 16 kHz from frame to frame and under the first: the convolutions of wav2vec2, HuBERT and their kin."""
CUT = "leave it out with s3router format-wav"


@dataclass(frozen=True)
class Report:
    """What was found in one directory.

    Attributes:
        data: the utterances without a problem of their own, with measured durations.
        problems: one message each; empty means fit.
        notes: worth knowing, not a fault.
    """

    data: DataDir
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def frames_of(seconds: Seconds) -> int:
    """Frames of 20 ms that an upstream makes of this much audio."""
    return max(0, (round(seconds * SAMPLE_RATE) - FRAME_WINDOW) // FRAME_SHIFT + 1)


def misfit(
    utterance: Utterance,
    tokens: TokenIds | None = None,
    max_seconds: Seconds | None = None,
    min_frames: int = 1,
) -> str | None:
    """Why this utterance (duration known) cannot be used as it is, or None.

    CTC needs a frame for every token and a blank between equal neighbours (Graves et al. 2006, section 3).
    """
    seconds, frames = utterance.duration, frames_of(utterance.duration)
    if max_seconds is not None and seconds > max_seconds:
        return f"too long: {seconds:.1f} s, at most {max_seconds:g} s are taken"
    if frames < min_frames:
        return f"too short: {frames} frames of 20 ms ({seconds:.2f} s), at least {min_frames} are needed"
    if tokens is not None and utterance.text:
        needed = min_ctc_frames(tokens.split(utterance.text))
        if needed > frames:
            return f"too many tokens: CTC needs {needed} frames for them, {seconds:.2f} s of audio make {frames}"
    return None


def validate(
    path: str | os.PathLike,
    tokens: TokenIds | None = None,
    *,
    need_text: bool = True,
    unknown_is_problem: bool = True,
    max_seconds: Seconds | None = None,
    min_frames: int = 1,
    sample_rate: int | None = None,
    nj: int = 1,
) -> Report:
    """Check a directory: its files against each other, its audio by decoding it, its transcripts.

    Args:
        path: the directory.
        tokens: transcripts must be made of these.
        need_text: False for a directory without ``text``.
        unknown_is_problem: False lists tokens outside the list as notes: a model cannot write them, but a test set
            that holds them can be scored.
        max_seconds, min_frames: see `misfit`.
        sample_rate: what the files must have themselves; None where they are resampled when read.
        nj: threads that decode.
    """
    utts, problems = scan(path, need_text)
    notes: list[str] = []
    readable = [u for u in utts if (file := file_of(u.source)) is None or file.is_file()]  # scan has named the others
    measured, audio_problems = _measure(readable, sample_rate, nj)
    problems += audio_problems
    good = []
    for utterance in measured:
        wrong = misfit(utterance, tokens, max_seconds, min_frames)
        if wrong:
            problems.append(f"{utterance.utt}: {wrong}; {CUT}")
        unknown = tokens.unknown(utterance.text) if tokens is not None and utterance.text else []
        if unknown:
            shown = " ".join(f"{t!r} (U+{ord(t):04X})" if len(t) == 1 else repr(t) for t in unknown)
            message = f"{utterance.utt}: outside the token list: {shown}; normalise the transcript or extend the list"
            (problems if unknown_is_problem else notes).append(message)
        if not wrong and not (unknown and unknown_is_problem):
            good.append(utterance)
    return Report(DataDir(Path(path), good), problems, notes)


def _measure(utts: Sequence[Utterance], sample_rate: int | None, nj: int) -> tuple[list[Utterance], list[str]]:
    """Decode every recording once: (utterances with durations, problems)."""
    recordings: dict[str, list[Utterance]] = {}
    for u in utts:
        recordings.setdefault(split_stretch(u.source)[0], []).append(u)
    with threads(nj) as pool:
        results = list(pool.map(lambda item: _measure_recording(*item, sample_rate), recordings.items()))
    measured = sorted((u for good, _ in results for u in good), key=lambda u: u.utt)
    return measured, [problem for _, problems in results for problem in problems]


def _measure_recording(
    source: str, utts: list[Utterance], sample_rate: int | None
) -> tuple[list[Utterance], list[str]]:
    name = utts[0].utt if len(utts) == 1 else f"{utts[0].utt} and {len(utts) - 1} more"
    try:
        samples, rate = read_native(source)
    except DataError as error:
        return [], [f"{name}: {error}"]
    seconds, good, problems = len(samples) / rate, [], []
    if sample_rate is not None and rate != sample_rate:
        problems.append(f"{name}: {source} has {rate} Hz, expected {sample_rate}; convert with s3router format-wav")
    for u in utts:
        _, start, end = split_stretch(u.source)
        if start is not None:
            if end > seconds + 0.5:  # Kaldi's own tolerance
                problems.append(
                    f"{u.utt}: ends at {end} s of a recording of {seconds:.2f} s; correct the segments file"
                )
            else:
                good.append(replace(u, duration=min(end, seconds) - start))
        else:
            if u.duration is not None and abs(u.duration - seconds) > 0.1 + 0.01 * seconds:
                problems.append(
                    f"{u.utt}: utt2dur says {u.duration:.2f} s, {source} has {seconds:.2f} s; delete utt2dur if the "
                    f"audio is right, fetch the audio again if it was cut"
                )
            good.append(replace(u, duration=seconds))
    return good, problems
