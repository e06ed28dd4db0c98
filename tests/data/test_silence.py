"""Silence is cut out to the sample as by sox, whose results are recorded here, and by a machine that reads samples."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from s3router.data.silence import without_silence

EFFECTS = ["gain", "-3.0", "silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]
GAIN = 10 ** (-3 / 20)
SOX = [18255, 17508, 22940, 6597, 36522, 42952, 20271, 27364, 14385, 5825, 23646, 0]
"""Samples that sox 14.4.2 leaves of ``signal(seed)``."""


def signal(seed: int) -> np.ndarray:
    """int16 (samples,): stretches of noise from far below to far above the threshold, and of digital silence."""
    random, parts = np.random.default_rng(seed), []
    for _ in range(random.integers(1, 14)):
        size, level = int(random.integers(50, 9000)), 10 ** random.uniform(-4.5, -1)
        parts.append(random.standard_normal(size) * level * (random.random() < 0.8))
    return np.clip(np.round(np.concatenate(parts) * 32768), -32768, 32767).astype(np.int16)


def sample_by_sample(wav: np.ndarray) -> np.ndarray:
    """The same by the book: a window of squares, and a buffer that holds samples back until their fate is clear."""
    squares, kept, held, copying = [0.0] * 320, [], [], False
    for number, sample in enumerate(wav.tolist()):
        squares = [*squares[1:], sample * sample]
        loud = np.sqrt(sum(squares) / 320) > 0.001
        if loud == copying:
            kept += held if copying else []
            held = []
            if copying:
                kept.append(number)
            continue
        held.append(number)
        if len(held) == 1600:
            if copying:
                squares = [0.0] * 320
            else:
                kept += held
            held, copying = [], not copying
    return wav[[*kept, *held]] if copying else wav[kept]


@pytest.mark.parametrize("seed", range(len(SOX)))
def test_as_many_samples_are_left_as_by_sox(seed):
    assert len(without_silence(signal(seed) / 32768 * GAIN)) == SOX[seed]


@pytest.mark.parametrize("seed", range(6))
def test_the_same_samples_are_left_as_one_by_one(seed):
    wav = signal(seed)[:20000] / 32768
    np.testing.assert_array_equal(without_silence(wav), sample_by_sample(wav))


@pytest.mark.skipif(shutil.which("sox") is None, reason="compares with sox where it is installed")
@pytest.mark.parametrize("seed", range(100, 120))
def test_the_same_samples_are_left_as_by_sox(seed, tmp_path):
    soundfile.write(tmp_path / "in.wav", signal(seed), 16000, subtype="PCM_16")
    wide = ["-b", "32", "-e", "signed-integer", tmp_path / "out.wav"]
    subprocess.run(["sox", "-D", tmp_path / "in.wav", *wide, *EFFECTS], check=True)
    left, _ = soundfile.read(tmp_path / "out.wav")
    np.testing.assert_allclose(without_silence(signal(seed) / 32768 * GAIN), left, atol=1e-6)


def test_silence_around_and_between_goes_and_short_pauses_stay():
    noise = 0.1 * np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    noise[0] = 0.5  # loud at once
    quiet = np.zeros(8000, dtype=np.float32)
    cut = without_silence(np.concatenate([quiet, noise, quiet, noise, quiet]))
    assert cut.dtype == np.float32
    # the window of 20 ms still hears the noise at the end of each stretch
    np.testing.assert_array_equal(cut[:24000], noise)
    assert 48000 < len(cut) <= 48000 + 2 * 320
    paused = np.concatenate([noise, quiet[:1280], noise])
    np.testing.assert_array_equal(without_silence(paused), paused)
    assert len(without_silence(quiet)) == len(without_silence(quiet[:0])) == 0
