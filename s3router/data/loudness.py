"""Where somebody may speak: frames that are loud relative to the recording's own loudness, without a model."""

from __future__ import annotations

import itertools

import numpy as np

from s3router.data.audio import SAMPLE_RATE, Seconds

FRAME = SAMPLE_RATE // 100
"""Samples."""
_CLICK = 3  # frames: what is louder for a shorter time is no speech
_RANGE = 50.0  # dB: what lies further below the loudest frames is as good as silent
_LEAST = 12.0  # dB between loud and quiet frames; in less no pauses can be told


def loud_frames(wave: np.ndarray) -> np.ndarray:
    """(samples,), float at 16 kHz -> which frames of 10 ms are loud, bool (frames,): all where none is quiet."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
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


def quiet_stretches(loud: np.ndarray, least: Seconds) -> list[tuple[int, int]]:
    """(first frame, frame behind the last) of the stretches of `loud_frames` that are quiet for so long or longer."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~loud, [False]]).astype(np.int8)))
    stretches = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(start, stop) for start, stop in stretches if (stop - start) * FRAME >= least * SAMPLE_RATE]
