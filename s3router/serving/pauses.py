"""Recordings cut where nobody speaks.

Loudness alone decides, relative to the recording's own: it needs no model, and a cut in a wrong place only divides what
could have been decoded together.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.loudness import FRAME, loud_frames, quiet_stretches
from s3router.seq2seq.windows import cut as cut_to_windows

PAUSE: Seconds = 0.5
"""The shortest pause that a recording is cut in, if it is not said."""
_SPEECH = 25  # frames of it that a piece has to have; pieces with less stay with what comes before


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
    speech = loud_frames(wave)
    inside = [(start, stop) for start, stop in quiet_stretches(speech, least) if start > 0 and stop < len(speech)]
    borders = [(start + stop) // 2 for start, stop in inside]
    heard = np.concatenate(([0], np.cumsum(speech)))  # frames of speech before each
    kept: list[int] = []
    for border in borders:
        before = heard[border] - heard[kept[-1] if kept else 0]
        if before >= _SPEECH and heard[-1] - heard[border] >= _SPEECH:
            kept.append(border)
    return [border * FRAME for border in kept]


def _parts(wave: np.ndarray, start: int, stop: int, longest: Seconds) -> list[tuple[int, int]]:
    if stop - start <= longest * SAMPLE_RATE:
        return [(start, stop)]
    lengths = [len(part) for part in cut_to_windows(torch.from_numpy(wave[start:stop]), round(longest * SAMPLE_RATE))]
    return list(itertools.pairwise(itertools.accumulate(lengths, initial=start)))
