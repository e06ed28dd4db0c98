"""Audio that a program holds in memory -> one waveform at one sample rate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from s3router.data.audio import SAMPLE_RATE, check_rate, check_samples, no_command, read_audio, read_bytes, resample
from s3router.errors import DataError


def waveform(audio: Any, name: str = "audio") -> np.ndarray:
    """What a program has of a recording -> float32 (samples,), full scale ±1, at 16 kHz.

    Args:
        audio: samples at 16 kHz (a numpy array or a tensor of one dimension; whole numbers of 8, 16 or 32 bits
            are PCM); a file of any format that is open for reading, or its bytes; or a cell of an audio column
            of HuggingFace's ``datasets``: ``array`` and ``sampling_rate``, or ``bytes``, or ``path``.
        name: names it in messages.

    Raises:
        DataError: it is none of these; no samples, several channels, values that are not finite.
    """
    rate = SAMPLE_RATE
    if isinstance(audio, Mapping) or hasattr(audio, "get_all_samples"):  # the latter is torchcodec's decoder
        if isinstance(audio, Mapping) and "array" not in audio:
            return _file(audio, name)
        try:
            audio, rate = audio["array"], int(audio["sampling_rate"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise DataError(f"{name}: array without a sampling_rate in Hz; give both") from None
        check_rate(rate, name)
    if hasattr(audio, "read"):
        audio = _read(audio, name)
    if isinstance(audio, bytes | bytearray):
        return read_bytes(bytes(audio), name)
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu()
        audio = audio.float() if audio.is_floating_point() else audio  # numpy has no bfloat16
    samples = np.asarray(audio)
    if samples.ndim != 1 or samples.dtype.kind not in "fi" or not samples.size:
        raise DataError(
            f"{name}: {samples.dtype} of shape {samples.shape} is no waveform; give (samples,) of one channel at "
            "16 kHz, the bytes of a file, or a path"
        )
    if samples.dtype == np.int64:  # what numpy makes of whole numbers that were 16 bits somewhere
        raise DataError(f"{name}: int64 does not tell what full scale is; give int16, int32 or floats of ±1")
    if samples.dtype.kind == "i":
        samples = samples / (np.iinfo(samples.dtype).max + 1)
    samples = samples.astype(np.float32)
    check_samples(samples, name)
    return samples if rate == SAMPLE_RATE else resample(samples, rate, SAMPLE_RATE)


def _read(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # the latter: it is closed
        raise DataError(f"{name}: the file cannot be read ({error}); give its path") from None
    if not isinstance(content, bytes):
        raise DataError(f"{name}: a file that is open for text; open it with mode 'rb', or give its path")
    return content


def _file(cell: Mapping[str, Any], name: str) -> np.ndarray:
    if cell.get("bytes"):
        return read_bytes(cell["bytes"], cell.get("path") or name)
    if cell.get("path"):
        return read_audio(no_command(os.fspath(cell["path"]), name))
    raise DataError(f"{name}: neither array, bytes nor path in {sorted(cell)}; give one of them")
