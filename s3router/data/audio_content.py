"""From a file's content to samples, whatever the format: libsndfile where it knows it, ffmpeg elsewhere.

Damaged, truncated and foreign content is refused. Nothing but the content is opened.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator
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
_BLOCK = 1 << 20  # samples
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
    check_length(file, source)
    try:
        with soundfile.SoundFile(file) as opened:
            frames, rate = opened.frames, opened.samplerate
            samples = _read_on(opened, max_seconds * rate)
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


def _read_on(opened: soundfile.SoundFile, most: float) -> np.ndarray:
    """All samples, or some more than `most`. In blocks: a header may tell any number, and some files tell none."""
    blocks, samples = [opened.read(_BLOCK, dtype="float32")], 0
    while len(blocks[-1]) == _BLOCK and (samples := samples + _BLOCK) <= most:
        blocks.append(opened.read(_BLOCK, dtype="float32"))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _too_long(source: str, max_seconds: Seconds) -> TooLongError:
    return TooLongError(f"{source}: longer than {max_seconds:g} s; cut it into shorter recordings")


def _decode_av(file: BinaryIO, source: str, container: str | None, max_seconds: Seconds) -> tuple[np.ndarray, int]:
    import av

    blocks, samples = [], 0
    try:
        with av.open(file, format=container, options={"format_whitelist": _CONTAINERS}) as opened:
            if not opened.streams.audio:
                raise DataError(f"{source}: no audio in it")
            if opened.streams.audio[0].codec_context is None:
                raise DataError(f"{source}: audio in a format that ffmpeg does not know; convert it to wav")
            rate = opened.streams.audio[0].rate
            floats = av.AudioResampler(format="fltp", rate=rate)  # channels stay: ffmpeg would add them up, not average
            for frame in itertools.chain(opened.decode(audio=0), (None,)):
                for block in floats.resample(frame):
                    blocks.append(block.to_ndarray())
                    samples += block.samples
                if samples > max_seconds * rate:
                    raise _too_long(source, max_seconds)
    except (av.FFmpegError, ValueError, AttributeError, TypeError) as error:  # of what its bindings do not expect
        raise DataError(f"{source}: not audio that can be decoded, or damaged ({error}); convert it to wav") from error
    if not blocks:
        raise DataError(f"{source}: no audio in it; fetch or make it again")
    return np.concatenate(blocks, axis=1).T, rate


def check_length(file: BinaryIO, source: str) -> None:
    """Refuse a file whose audio ends before its header says so: decoders read it in silence. Rewinds the file.

    Of wav, rf64, w64, aiff, au and caf; flac says it by itself, and others have no length in their header.
    """
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    end = _told_end(file, size)
    file.seek(0)
    if end is not None and end > size:
        raise DataError(f"{source}: truncated ({size} of {end} bytes); fetch or make it again")


def _told_end(file: BinaryIO, size: int) -> int | None:
    """Where the audio ends as the header has it, in bytes from the beginning; None where it does not say."""
    head = file.read(16)
    if len(head) < 16:
        return None
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        # chunks: name, length in bytes, padded to even; that of RF64's data stands in its first chunk, ds64
        long = 0
        for start, name, length in _chunks(file, size, 12, "<4sI", pad=2):
            if name == b"ds64":
                file.seek(start)
                _, long = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
            if name == b"data":
                return start + length if 0 < length < STREAMED else start + long if long and long < 2**62 else None
    elif head[:4] == b"FORM":
        for start, name, length in _chunks(file, size, 12, ">4sI", pad=2):
            if name == b"SSND":
                return start + length if length else None
    elif head[:4] == b"caff":
        for start, name, length in _chunks(file, size, 8, ">4sq", pad=1):
            if name == b"data":
                return start + length if length > 0 else None
    elif head[:4] == b".snd":
        start, length = struct.unpack(">II", head[4:12])
        return start + length if 0 < length < 0xFFFFFFFF else None
    elif head[:4] == b"riff":  # Sony's wave64, whose names are GUIDs that begin so, and whose lengths count them, too
        for start, name, length in _chunks(file, size, 40, "<4s12xQ", pad=8, counted=24):
            if name == b"data":
                return start + length if length > 0 else None
    return None


def _chunks(
    file: BinaryIO, size: int, position: int, form: str, pad: int, counted: int = 0
) -> Iterator[tuple[int, bytes, int]]:
    """(where its content starts, name, length of the content) of each chunk, in bytes.

    Args:
        position: of the first.
        form: of name and length, in `struct`'s words.
        pad: chunks begin at multiples of this.
        counted: bytes of name and length that the length counts.
    """
    width = struct.calcsize(form)
    while position + width <= size:
        file.seek(position)
        name, length = struct.unpack(form, file.read(width))
        length -= counted
        yield position + width, name, length
        if length < 0:
            return
        position += width + length + -length % pad


def to_mono(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """(samples,) or (samples, channels) -> float32 (samples,), the mean of the channels; and the rate."""
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return np.ascontiguousarray(samples, dtype=np.float32), int(rate)
