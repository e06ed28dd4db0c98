"""Waveforms of the recordings that a user has named or given; bad ones are refused, or left out with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from s3router.data.audio import SAMPLE_RATE, read_audio
from s3router.data.kaldi import Utterance, too_short
from s3router.data.recordings import problems_as_error
from s3router.errors import DataError


@dataclass(frozen=True)
class WaveUtterance(Utterance):
    """A recording in memory.

    Attributes:
        wave: float32 (samples,) at 16 kHz; nothing is read from `source`, which is a name.
    """

    wave: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)

    @classmethod
    def of(cls, wave: np.ndarray, name: str) -> WaveUtterance:
        """float32 (samples,) at 16 kHz under a name."""
        return cls(name, name, duration=len(wave) / SAMPLE_RATE, wave=wave)


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
            wave = utt.wave if isinstance(utt, WaveUtterance) else read_audio(utt.source, SAMPLE_RATE)
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


def in_order[T](found: Iterable[tuple[int, T]], left_out: Mapping[int, str] | None = None) -> Iterator[T]:
    """Results in the order of their recordings, each as soon as all before it are there.

    Args:
        found: (index of a recording, result), in any order.
        left_out: indices of which none will come; may still grow.
    """
    waiting, following = {}, 0
    for index, result in found:
        waiting[index] = result
        while following in waiting or following in (left_out or ()):
            if following in waiting:
                yield waiting.pop(following)
            following += 1
    for index in sorted(waiting):  # what was left out last
        yield waiting[index]
