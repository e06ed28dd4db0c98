"""Audio reading: every source that a ``wav.scp`` may name becomes a mono float32 array at one sample rate.

A *source* is the second column of ``wav.scp``: a path (wav, flac, mp3, ogg, opus, m4a, headerless ``.g722`` or
``.gsm`` …), an offset into a Kaldi archive (``feats.ark:1234``), or a pipe (``sph2pipe -f wav a.sph |``), which bash
runs, as in Kaldi: only use a ``wav.scp`` whose author you trust. A stretch of a recording is written as
``source#t=start,end`` in seconds (the notation of W3C media fragments), which is what `s3router.data.kaldi` makes of a
``segments`` file.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from s3router.data.audio_content import HEADERLESS, STREAMED, Seconds, check_length, decode_file, to_mono
from s3router.errors import ConfigError, DataError
from s3router.files import replacing

SAMPLE_RATE = 16000
"""Sample rate of the audio that upstreams take, in Hz."""
PIPE_TIMEOUT = "S3ROUTER_PIPE_TIMEOUT"
"""Environment variable: seconds after which a pipe of wav.scp counts as hung (default 600; 0: no limit)."""

LOUDEST = 2.0**32
"""Samples above it, at a full scale of 1, are damage: 32-bit numbers that were never scaled are below."""
RATES = range(1000, 768_001)
"""Sample rates that recordings may have, in Hz; a header that says another is damaged, or wants memory."""

_STRETCH = re.compile(r"^(?P<source>.*)#t=(?P<start>\d+(?:\.\d+)?),(?P<end>\d+(?:\.\d+)?)$")
_ARK = re.compile(r"^(?P<path>[^|]*):(?P<offset>\d+)$")


def split_stretch(source: str) -> tuple[str, Seconds | None, Seconds | None]:
    """``"a.wav#t=1,2.5"`` -> ``("a.wav", 1.0, 2.5)``; without a stretch the times are None."""
    match = _STRETCH.match(source)
    return (match["source"], float(match["start"]), float(match["end"])) if match else (source, None, None)


def join_stretch(source: str, start: Seconds, end: Seconds) -> str:
    """The inverse of `split_stretch`."""
    return f"{source}#t={start:.5f},{end:.5f}"


def is_pipe(source: str) -> bool:
    """Whether the source is a shell command whose standard output is audio."""
    return split_stretch(source)[0].rstrip().endswith("|")


def no_command(source: str, what: str) -> str:
    """A source that comes from elsewhere than ``wav.scp``, where nobody expects that it is run.

    Raises:
        DataError: it is a pipe; `what` it is of is named.
    """
    if is_pipe(source):
        raise DataError(f"{what}: {source!r} is a shell command, which only wav.scp may hold; name a file")
    return source


def file_of(source: str) -> Path | None:
    """The file that must exist for this source, or None for a pipe."""
    source = split_stretch(source)[0]
    return None if is_pipe(source) else _place(source)[0]


def file_stamp(source: str) -> tuple[int, int] | None:
    """(bytes, time of change in ns) of the file behind a source; None for a pipe, or where there is no file."""
    file = file_of(source)
    if file is None or not file.is_file():
        return None
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def is_in_archive(source: str) -> bool:
    """Whether the source is an offset into an archive; a file that happens to be called so is none."""
    source = split_stretch(source)[0]
    return not is_pipe(source) and _place(source)[1] is not None


def _place(source: str) -> tuple[Path, int | None]:
    """The file, and the offset in bytes where it is an archive."""
    match = _ARK.match(source)
    if match and not os.path.exists(source):
        return Path(match["path"]), int(match["offset"])
    return Path(source), None


def read_audio(source: str | os.PathLike, sample_rate: int | None = SAMPLE_RATE) -> np.ndarray:
    """Decode ``source``, mix its channels down (mean) and resample it.

    Args:
        source: see the module's docstring.
        sample_rate: of the result, in Hz; None keeps the source's own.

    Returns:
        float32, shape (samples,), full scale ±1.

    Raises:
        DataError: missing, empty, truncated or undecodable audio, or a pipe that failed.
    """
    samples, rate = read_native(source)
    return samples if sample_rate is None or rate == sample_rate else resample(samples, rate, sample_rate)


def read_bytes(
    content: bytes, name: str, sample_rate: int = SAMPLE_RATE, max_seconds: Seconds = math.inf
) -> np.ndarray:
    """As `read_audio`, of a file's content. Nothing is opened, whatever the content or the name say.

    Args:
        name: names it in messages; its suffix tells what formats without a header are (``.g722``, ``.gsm``).
        max_seconds: longer recordings are not decoded to their end.

    Raises:
        TooLongError: it is longer than that.
        DataError: as `read_audio`.
    """
    if not content:
        raise DataError(f"{name}: the file is empty; fetch or make it again")
    samples, rate = _checked(name, *to_mono(*decode_file(io.BytesIO(content), name, max_seconds)))
    return samples if rate == sample_rate else resample(samples, rate, sample_rate)


def read_native(source: str | os.PathLike) -> tuple[np.ndarray, int]:
    """As `read_audio`, at the source's own rate: (float32 (samples,), rate in Hz)."""
    source, start, end = split_stretch(os.fspath(source))
    if start is None:
        samples, rate = _decode(source)
    else:
        samples, rate = _decode_cached(source, file_stamp(source))
        samples = cut(samples, rate, start, end, source)
    return _checked(source, samples, rate)


def _checked(source: str, samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    if samples.size == 0:
        raise DataError(f"{source}: no audio in it; fetch or make the recording again, or leave it out")
    check_samples(samples, source)
    return samples, check_rate(rate, source)


def check_samples(samples: np.ndarray, name: str) -> None:
    """Raise DataError where samples are not finite, or so large that a model's arithmetic would not be."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if not math.isfinite(loudest):  # NaN is the largest, too
        raise DataError(f"{name}: contains NaN or infinite samples; make the recording again, or leave it out")
    if loudest > LOUDEST:
        raise DataError(
            f"{name}: samples of up to {loudest:.3g}, where full scale is 1; make the recording again, or leave it out"
        )


def check_rate(rate: int, name: str) -> int:
    """The rate in Hz. Raises DataError where it is none of `RATES`."""
    if rate not in RATES:
        raise DataError(f"{name}: a sample rate of {rate} Hz; {RATES[0]} to {RATES[-1]} Hz can be read, correct it")
    return rate


def cut(samples: np.ndarray, rate: int, start: Seconds, end: Seconds, source: str) -> np.ndarray:
    """A copy of the stretch; one that ends up to half a second after the recording is cut there, as in Kaldi.

    Raises:
        DataError: the stretch is not inside; ``source`` is named.
    """
    first, last = round(start * rate), round(end * rate)
    if not 0 <= first < min(last, len(samples)) or last > len(samples) + rate // 2:
        raise DataError(
            f"{source}: the stretch {start}-{end} s is not inside the recording ({len(samples) / rate:.2f} s); "
            f"correct the segments file"
        )
    return samples[first:last].copy()


@dataclass(frozen=True)
class AudioInfo:
    """What a header says.

    Attributes:
        seconds: length.
        rate: samples per second.
        channels: their number.
        format: libsndfile's name of the container, or "decoded".
        whole_numbers: whether samples are integers, which always stand for a finite value.
    """

    seconds: Seconds
    rate: int
    channels: int
    format: str
    whole_numbers: bool = False


def probe(source: str | os.PathLike) -> AudioInfo:
    """From the header where libsndfile knows the format, else by decoding (pipes, archives, other formats).

    Raises:
        DataError: as `read_audio`; cut-off files other than wav may pass here.
    """
    source = os.fspath(source)
    path = file_of(source)
    if path is not None and not is_in_archive(source) and path.suffix.lower() not in HEADERLESS:
        import soundfile

        with open(_existing(path), "rb") as file:
            check_length(file, source)
        try:
            info = soundfile.info(source)
        except soundfile.LibsndfileError:
            pass  # not a format of libsndfile: decode it
        else:
            if info.frames > 0:
                if info.format == "FLAC":
                    _check_end(path)
                return AudioInfo(
                    info.frames / info.samplerate, info.samplerate, info.channels, info.format, "PCM" in info.subtype
                )
    samples, rate = read_native(source)
    return AudioInfo(len(samples) / rate, rate, 1, "decoded")


def _check_end(path: Path) -> None:
    """Refuse a flac file that ends before its header says so, without decoding it."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as opened:
            opened.seek(opened.frames - 1)
            if len(opened.read(1)) == 1:
                return
    except soundfile.LibsndfileError:
        pass
    raise DataError(f"{path}: damaged or truncated; fetch or make it again")


def duration(source: str | os.PathLike) -> Seconds:
    """Length in seconds, see `probe`; of a stretch, its own."""
    base, start, end = split_stretch(os.fspath(source))
    return probe(base).seconds if start is None else end - start


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Band-limited resampling (soxr, high quality); float32 (samples,) at ``rate`` -> float32 at ``to``."""
    import soxr

    return soxr.resample(samples, rate, to, quality="HQ").astype(np.float32, copy=False)


def write_audio(path: str | os.PathLike, samples: np.ndarray, rate: int) -> None:
    """Write float (samples,), ±1, as 16 bits in the format of the suffix (.wav, .flac); whole or not at all.

    Louder samples are clipped. Samples that were read from 16 bits are written back unchanged.
    """
    import soundfile

    path = Path(path)
    coded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    encoded = io.BytesIO()  # libsndfile would not say that the disk is full
    soundfile.write(encoded, coded, rate, subtype="PCM_16", format=path.suffix[1:].upper())
    with replacing(path, "wb") as file:
        file.write(encoded.getvalue())


@lru_cache(maxsize=1)
def _decode_cached(source: str, stamp: tuple[int, int] | None) -> tuple[np.ndarray, int]:
    return _decode(source)  # the segments of one recording follow one another


def _decode(source: str) -> tuple[np.ndarray, int]:
    if is_pipe(source):
        return to_mono(*decode_file(io.BytesIO(_run(source)), source))
    path, offset = _place(source)
    if offset is not None:
        return _decode_ark(source, path, offset)
    with open(_existing(path), "rb") as file:
        return to_mono(*decode_file(file, source))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path in wav.scp (relative ones start where you are)")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; fetch or make it again")
    return path


_running: set[int] = set()  # process groups of pipes
_refused = threading.Event()  # see `no_pipes`


def _run(command: str) -> bytes:
    """Standard output of a Kaldi pipe; it is a shell command by definition.

    It gets no standard input: ffmpeg, for one, would read that of the script that called us. Its processes form a group
    of their own, which ends when this function does not end well.
    """
    shell = ["bash", "-c", f"set -o pipefail; {command.rstrip()[:-1]}"]
    limit = _pipe_timeout()
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(shell, **pipes, start_new_session=True) as process:
        _running.add(process.pid)
        if _refused.is_set():
            _end_group(process.pid)
        try:
            out, err = process.communicate(timeout=limit)
        except BaseException as error:
            _end_group(process.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise DataError(
                f"{command} has not ended after {limit:g} s; run it by hand to see why, or allow more with "
                f"{PIPE_TIMEOUT}={2 * limit:g}"
            ) from None
        finally:
            _running.discard(process.pid)
    if process.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1:]
        raise DataError(f"{command} failed with status {process.returncode}: {' '.join(last) or 'no message'}")
    if not out:
        raise DataError(f"{command} wrote nothing; run it by hand to see why")
    return out


@contextlib.contextmanager
def no_pipes() -> Iterator[None]:
    """The pipes that other threads read end, and none begins, while the block runs; they fail in those threads."""
    _refused.set()
    for group in list(_running):
        _end_group(group)
    try:
        yield
    finally:
        _refused.clear()


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _pipe_timeout() -> Seconds | None:
    text = os.environ.get(PIPE_TIMEOUT, "600")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{PIPE_TIMEOUT}={text}: expected a number of seconds, 0 for no limit")
    return value or None


def _decode_ark(source: str, path: Path, offset: int) -> tuple[np.ndarray, int]:
    import kaldiio

    _existing(path)
    if wav := _wav_at(path, offset):
        return to_mono(*decode_file(io.BytesIO(wav), source))
    try:
        loaded = kaldiio.load_mat(source)
    except Exception as error:  # kaldiio has no errors of its own: struct, value, assertion, soundfile …
        raise DataError(f"{source}: no readable audio at this offset ({error}); write the archive again") from error
    pair = loaded if isinstance(loaded, tuple) and len(loaded) == 2 else (None, None)
    rate, samples = pair if isinstance(pair[0], int) else pair[::-1]
    if not isinstance(rate, int):
        raise DataError(f"{source}: a matrix, not audio; wav.scp needs archives of recordings (wav-copy)")
    return to_mono(_to_float(np.asarray(samples)), rate)


def _wav_at(path: Path, offset: int) -> bytes:
    """The wav file at this place of an archive; nothing where there is another format, or its header has no length.

    kaldiio takes every wav for whole numbers of 8, 16 or 64 bits, whatever it holds, and reads cut-off ones in silence.
    """
    with open(path, "rb") as archive:
        archive.seek(offset)
        head = archive.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return b""
        length = int.from_bytes(head[4:], "little")
        return head + archive.read(length) if 0 < length < STREAMED else b""


def _to_float(samples: np.ndarray) -> np.ndarray:
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32)
