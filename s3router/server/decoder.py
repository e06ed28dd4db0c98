"""The process that decodes audio: ``python -m s3router.server.decoder``. It may die; the server starts another.

In, any number of times: `REQUEST` (bytes of the name, bytes of the content, seconds at most), name, content.
Out: `READY` once, then for each request `REPLY` (`SAMPLES`, `BAD` or `TOO_LONG`, bytes that follow), and float32
samples at 16 kHz or a message.
"""

from __future__ import annotations

import resource
import struct
import sys

from s3router.data.audio import read_bytes
from s3router.errors import DataError, TooLongError

REQUEST = struct.Struct("<IQd")
REPLY = struct.Struct("<BQ")
READY = b"R"
SAMPLES, BAD, TOO_LONG = range(3)
MEMORY = 4 << 30
"""Bytes of address space: an hour in stereo at 48 kHz fits."""


def main() -> None:
    """Answer until the standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import av  # now, and not while somebody waits
    import soundfile
    import soxr  # noqa: F401

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(READY)
    sink.flush()
    while header := source.read(REQUEST.size):
        name_bytes, content_bytes, max_seconds = REQUEST.unpack(header)
        name = source.read(name_bytes).decode()
        kind, payload = answer(source.read(content_bytes), name, max_seconds)
        sink.write(REPLY.pack(kind, len(payload)))
        sink.write(payload)
        sink.flush()
    del av, soundfile


def answer(content: bytes, name: str, max_seconds: float) -> tuple[int, memoryview | bytes]:
    """What to reply to a request."""
    try:
        return SAMPLES, memoryview(read_bytes(content, name, max_seconds=max_seconds)).cast("B")
    except TooLongError as error:
        return TOO_LONG, str(error).encode()
    except MemoryError:
        return TOO_LONG, f"{name}: decoding it takes too much memory; cut it into shorter recordings".encode()
    except DataError as error:
        return BAD, str(error).encode()


if __name__ == "__main__":
    main()
