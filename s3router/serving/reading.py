"""Waveforms of the recordings that a user has named; bad ones are refused, or left out with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import Utterance, too_short
from s3router.data.recordings import problems_as_error
from s3router.errors import DataError


class WaveReader:
    """A function: index of a recording -> float32 (samples,) at 16 kHz, of one frame at least.

    Args:
        recordings: with durations (`s3router.data.recordings.find_recordings`).
        receptive_field: samples that the upstream needs for one frame.
        bad: index -> what is wrong with a recording. Given, it is filled in the place of errors, and such a recording
            reads as silence, whose outputs are to be dropped.

    Raises:
        DataError: recordings that are too short for one frame, all at once; when called, one that cannot be read.
    """

    def __init__(self, recordings: Sequence[Utterance], receptive_field: int, bad: dict[int, str] | None = None):
        self.recordings, self.receptive_field, self.bad = recordings, receptive_field, bad
        # The shortest are read last, which is late to say it. One sample is left to resampling, which may round up.
        problems = [too_short([utt], receptive_field - 1) for utt in recordings]
        short = {index: problem[0] for index, problem in enumerate(problems) if problem}
        if short and bad is None:
            raise problems_as_error(list(short.values()))
        if bad is not None:
            bad |= short

    def __call__(self, index: int) -> np.ndarray:
        """The waveform of recording number ``index``."""
        utt = self.recordings[index]
        if self.bad is not None and index in self.bad:
            return self._silence()
        try:
            wave = read_audio(utt.source, SAMPLE_RATE)
            if problem := too_short([replace(utt, duration=len(wave) / SAMPLE_RATE)], self.receptive_field):
                raise DataError(problem[0])
        except DataError as error:
            if self.bad is None:
                raise
            self.bad[index] = str(error)
            return self._silence()
        return wave

    def _silence(self) -> np.ndarray:
        return np.zeros(self.receptive_field, np.float32)
