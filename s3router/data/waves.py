"""Audio that a program holds in memory -> one waveform at one sample rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from s3router.data.audio import SAMPLE_RATE, read_audio, read_bytes, resample
from s3router.errors import DataError


def waveform(audio: Any, name: str = "audio") -> np.ndarray:
    """What a program has of a recording -> float32 (samples,), full scale ±1, at 16 kHz.

    Args:
        audio: samples at 16 kHz (a numpy array or a tensor of one dimension; whole numbers are taken for PCM); the
            bytes of a file of any format; or a cell of an audio column of HuggingFace's ``datasets``: ``array`` and
            ``sampling_rate``, or ``bytes``, or ``path``.
        name: names it in messages.

    Raises:
        DataError: it is none of these; no samples, several channels, values that are not finite.
    """
    rate = SAMPLE_RATE
    if isinstance(audio, Mapping) or hasattr(audio, "get_all_samples"):  # the latter is torchcodec's decoder
        if isinstance(audio, Mapping) and "array" not in audio:
            return _file(audio, name)
        audio, rate = audio["array"], audio["sampling_rate"]
    if isinstance(audio, bytes | bytearray):
        return read_bytes(bytes(audio), name)
    samples = np.asarray(audio.detach().cpu() if hasattr(audio, "detach") else audio)
    if samples.ndim != 1 or samples.dtype.kind not in "fi" or not samples.size:
        raise DataError(
            f"{name}: {samples.dtype} of shape {samples.shape} is no waveform; give (samples,) of one channel at "
            "16 kHz, the bytes of a file, or a path"
        )
    if samples.dtype.kind == "i":
        samples = samples / (np.iinfo(samples.dtype).max + 1)
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise DataError(f"{name}: NaN or infinite samples; make the recording again, or leave it out")
    return samples if rate == SAMPLE_RATE else resample(samples, int(rate), SAMPLE_RATE)


def _file(cell: Mapping[str, Any], name: str) -> np.ndarray:
    if cell.get("bytes"):
        return read_bytes(cell["bytes"], cell.get("path") or name)
    if cell.get("path"):
        return read_audio(cell["path"])
    raise DataError(f"{name}: neither array, bytes nor path in {sorted(cell)}; give one of them")
