"""From a file's content to samples, whatever the format: libsndfile where it knows it, ffmpeg elsewhere.

Damaged, truncated and foreign content is refused. Nothing but the content is opened.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from s3router.errors import DataError, TooLongError

if TYPE_CHECKING:
    import soundfile

Seconds = float
HEADERLESS = (".g722", ".gsm")  # known by their suffix alone, which is their format's name, too
# What ffmpeg may take a file for. Playlists (hls, dash, concat, sdp …) are not among them: a file in such a format
# names others, which ffmpeg would open, on the disk and on the network.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,flac,flv,g722,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,nist,"
    "ogg,tta,w64,wav,wv"
)
STREAMED = 0x7FFFF000  # RIFF data sizes from here on (and 0) are what encoders write when the length is not known


def decode_file(file: BinaryIO, source: str, max_seconds: Seconds = math.inf) -> tuple[np.ndarray, int]:
    """float32 (samples,) or (samples, channels) and the rate in Hz.

    Args:
        file: can be sought in.
        source: names it in messages; its suffix tells what `HEADERLESS` formats are.
        max_seconds: what is longer is not decoded to its end.

    Raises:
        TooLongError: it is longer than that.
        DataError: not audio, or damaged.
    """
    import soundfile

    if (suffix := Path(source).suffix.lower()) in HEADERLESS:
        return _decode_av(file, source, suffix[1:], max_seconds)
    check_riff(file, source)
    try:
        with soundfile.SoundFile(file) as opened:
            frames, rate = opened.frames, opened.samplerate
            most = -1 if max_seconds == math.inf else int(max_seconds * rate) + 1
            samples = opened.read(most, dtype="float32") if opened.seekable() else _read_on(opened)
    except soundfile.LibsndfileError as error:
        file.seek(0)
        if file.read(4) in (b"RIFF", b"fLaC"):
            raise DataError(f"{source}: damaged or truncated ({error}); fetch or make it again") from error
        file.seek(0)
        return _decode_av(file, source, None, max_seconds)
    if len(samples) > max_seconds * rate:
        raise _too_long(source, max_seconds)
    if 0 < len(samples) < frames < 2**62:
        raise DataError(f"{source}: truncated ({len(samples)} of {frames} samples); fetch or make it again")
    return samples, rate


def _read_on(opened: soundfile.SoundFile) -> np.ndarray:
    """All samples of a file in which libsndfile cannot seek, such as GSM 6.10 in wav."""
    blocks = [opened.read(1 << 16, dtype="float32")]
    while len(blocks[-1]):
        blocks.append(opened.read(1 << 16, dtype="float32"))
    return np.concatenate(blocks)


def _too_long(source: str, max_seconds: Seconds) -> TooLongError:
    return TooLongError(f"{source}: longer than {max_seconds:g} s; cut it into shorter recordings")


def _decode_av(file: BinaryIO, source: str, container: str | None, max_seconds: Seconds) -> tuple[np.ndarray, int]:
    import av

    blocks, samples = [], 0
    try:
        with av.open(file, format=container, options={"format_whitelist": _CONTAINERS}) as opened:
            if not opened.streams.audio:
                raise DataError(f"{source}: no audio in it")
            rate = opened.streams.audio[0].rate
            mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
            for frame in itertools.chain(opened.decode(audio=0), (None,)):
                for block in mono.resample(frame):
                    blocks.append(block)
                    samples += block.samples
                if samples > max_seconds * rate:
                    raise _too_long(source, max_seconds)
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{source}: not audio that can be decoded, or damaged ({error}); convert it to wav") from error
    if not blocks:
        raise DataError(f"{source}: no audio in it; fetch or make it again")
    return np.concatenate([b.to_ndarray().reshape(-1) for b in blocks]), rate


def check_riff(file: BinaryIO, source: str) -> None:
    """Refuse a wav file whose data ends before its header says so: decoders read it in silence. Rewinds the file."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    head = file.read(12)
    position = 12
    while head[:4] == b"RIFF" and head[8:] == b"WAVE" and position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            if 0 < length < STREAMED and position + 8 + length > size:
                raise DataError(
                    f"{source}: truncated ({size - position - 8} of {length} bytes of audio); fetch or make it again"
                )
            break
        position += 8 + length + length % 2
    file.seek(0)


def to_mono(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """(samples,) or (samples, channels) -> float32 (samples,), the mean of the channels; and the rate."""
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return np.ascontiguousarray(samples, dtype=np.float32), int(rate)
