"""Recordings cut where nobody speaks.

Loudness alone decides, relative to the recording's own: it needs no model, and a cut in a wrong place only divides what
could have been decoded together.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.seq2seq.windows import cut as cut_to_windows

PAUSE: Seconds = 0.5
"""The shortest pause that a recording is cut in, if it is not said."""
_FRAME = SAMPLE_RATE // 100
_CLICK = 3  # frames: what is louder for a shorter time is no speech
_SPEECH = 25  # frames of it that a piece has to have; pieces with less stay with what comes before
_RANGE = 50.0  # dB: what lies further below the loudest frames is as good as silent
_LEAST = 12.0  # dB between loud and quiet frames; in less no pauses can be told


def pieces_of(wave: np.ndarray, longest: Seconds, pause: Seconds | None = None) -> list[tuple[int, int]]:
    """(samples,), float32 at 16 kHz -> (first sample, sample behind the last) of pieces that tile the recording.

    Args:
        wave: one sample at least.
        longest: of a piece, up to 30 s: what has no pause in it for so long is cut where it is quietest.
        pause: cut in the middle of every pause that is as long as this. None: cut, in pauses of `PAUSE`, only what is
            longer than ``longest``.
    """
    if pause is None and len(wave) <= longest * SAMPLE_RATE:
        return [(0, len(wave))]
    borders = [0, *_pauses(wave, PAUSE if pause is None else pause), len(wave)]
    return [part for piece in itertools.pairwise(borders) for part in _parts(wave, *piece, longest)]


def _pauses(wave: np.ndarray, least: Seconds) -> list[int]:
    """The middles of pauses between stretches of speech, in samples."""
    speech = _speech(wave)
    runs = [(bool(kind), len(list(group))) for kind, group in itertools.groupby(speech)]
    starts = list(itertools.accumulate((length for _, length in runs), initial=0))
    borders: list[int] = []
    for (spoken, length), start in zip(runs, starts[:-1], strict=True):
        inside = start > 0 and start + length < len(speech)
        if not spoken and inside and length * _FRAME >= least * SAMPLE_RATE:
            borders.append(start + length // 2)
    kept: list[int] = []
    for border in borders:
        before = speech[kept[-1] if kept else 0 : border]
        if before.sum() >= _SPEECH and speech[border:].sum() >= _SPEECH:
            kept.append(border)
    return [border * _FRAME for border in kept]


def _speech(wave: np.ndarray) -> np.ndarray:
    """Which frames of 10 ms are loud, bool (frames,)."""
    frames = wave[: len(wave) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    if not len(level):
        return np.zeros(0, bool)
    loud = np.percentile(level, 95)
    quiet = max(np.percentile(level, 10), loud - _RANGE)
    if loud - quiet < _LEAST:
        return np.ones(len(level), bool)
    speech = level > quiet + 0.3 * (loud - quiet)
    frame = 0
    for kind, group in itertools.groupby(speech.tolist()):
        length = len(list(group))
        if kind and length < _CLICK:
            speech[frame : frame + length] = False
        frame += length
    return speech


def _parts(wave: np.ndarray, start: int, stop: int, longest: Seconds) -> list[tuple[int, int]]:
    if stop - start <= longest * SAMPLE_RATE:
        return [(start, stop)]
    lengths = [len(part) for part in cut_to_windows(torch.from_numpy(wave[start:stop]), round(longest * SAMPLE_RATE))]
    return list(itertools.pairwise(itertools.accumulate(lengths, initial=start)))
