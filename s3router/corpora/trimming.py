"""Speech for pretraining, cut out of the silence around it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from s3router.corpora.sets import Prepared, Recordings, StrPath, progress, write_untranscribed
from s3router.data.audio import SAMPLE_RATE, Seconds, read_audio
from s3router.errors import DataError

SHORTEST: Seconds = 0.5
LONGEST: Seconds = 30.0
QUIET = 0.03
LOUD_SHARE = 4e-4  # of the energy of the loudest 20 ms: 2 % of its amplitude


def trimmed(samples: np.ndarray, margin: Seconds = 0.15) -> np.ndarray:
    """Without what lies more than ``margin`` outside the stretch louder than 2 % of the loudest 20 ms.

    Args:
        samples: float32 (samples,) at 16 kHz.
        margin: kept on both sides.
    """
    hop = SAMPLE_RATE // 50
    energy = np.square(samples[: len(samples) // hop * hop].reshape(-1, hop)).mean(1)
    loud = np.flatnonzero(energy > LOUD_SHARE * energy.max(initial=0))
    if not len(loud):
        return samples[:0]
    return samples[max(0, int(loud[0] * hop - margin * SAMPLE_RATE)) : int((loud[-1] + 1) * hop + margin * SAMPLE_RATE)]


def as_int16(samples: np.ndarray) -> np.ndarray:
    """16-bit samples of float32 ones, as libsndfile makes them: rounded down, clipped."""
    coded = np.rint(samples * np.float32(2**31)).astype(np.int64) >> 16
    return coded.clip(-32768, 32767).astype(np.int16)


def write_trimmed(entries: Iterable[tuple[str, str, Path]], target: StrPath) -> Prepared:
    """Write ``wav.scp``, ``utt2spk`` and ``wav`` of (utterance, speaker, file), trimmed.

    Raises:
        DataError: none of them can be used.
    """
    target, done, utts, bad = Path(target), Prepared(), [], 0
    wavs = Recordings(target / "wav")
    for utt, speaker, path in progress(list(entries), target.name):
        try:
            samples = trimmed(read_audio(path, SAMPLE_RATE))
        except DataError:
            bad += 1
            continue
        if not SHORTEST <= len(samples) / SAMPLE_RATE <= LONGEST or np.abs(samples).max() < QUIET:
            bad += 1
            continue
        utts.append(wavs.add_int16(utt, as_int16(samples), speaker))
    if not utts:
        raise DataError(f"{target}: none of {bad} recordings can be used; unpack the corpus again")
    minutes = sum(u.duration for u in utts) / 60
    what = f"{len(utts)} recordings, {minutes:.1f} min; {bad} left out (unreadable, silent, under {SHORTEST} s)"
    write_untranscribed(done, target, utts, what)
    return done
