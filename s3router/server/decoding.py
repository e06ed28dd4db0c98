"""Audio decoding in processes of its own, so that what crashes a decoder, or hangs in it, harms one request only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

import numpy as np
from starlette.datastructures import UploadFile

from s3router.data.audio import Seconds
from s3router.server.decoder import READY, REPLY, REQUEST, SAMPLES, TOO_LONG
from s3router.server.refusal import Refusal

TRIES = 2
"""Processes that a recording is given to, if they die: the first one may have been dead already."""
CHUNK = 1 << 20  # bytes of an upload that are in memory at a time
NAME_CHARACTERS = 100  # of a file's name, in messages
ENVIRONMENT = (
    *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR", "LANG", "LANGUAGE", "MALLOC_ARENA_MAX"),
    *("PYTHONHOME", "PYTHONUTF8", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
)
"""Variables that a decoder is given, with those of ``LC_``: what a recording may take over shall find no keys."""


class Decoders:
    """A number of `s3router.server.decoder` processes; recordings wait for one that is free.

    Args:
        count: processes.
        on_death: called whenever one has died, or had to be ended.
    """

    def __init__(self, count: int, on_death: Callable[[], None]):
        self._count, self._on_death = count, on_death
        self._idle: asyncio.Queue[_Child | None] = asyncio.Queue()
        self._killed: list[_Child] = []

    async def start(self) -> None:
        """Start all; raises ChildProcessError if they do not come up."""
        for child in await asyncio.gather(*(_Child.start() for _ in range(self._count))):
            self._idle.put_nowait(child)

    async def stop(self) -> None:
        """End all; none may be at work."""
        for _ in range(self._count):
            child = await self._idle.get()
            if child is not None:
                await child.end()
        await asyncio.gather(*(child.process.wait() for child in self._killed))

    async def decode(self, upload: UploadFile, max_seconds: Seconds) -> np.ndarray:
        """An audio file of any format -> float32 (samples,) at 16 kHz.

        Args:
            upload: read when a process is free, and a chunk at a time. What it is called is for messages, and for
                formats that only a suffix tells; it is not opened.

        Raises:
            Refusal: not audio, or too long.
        """
        name = os.path.basename(upload.filename or "")
        name = "".join(c if c.isprintable() else "?" for c in name)[-NAME_CHARACTERS:] or "the file"
        for _ in range(TRIES):
            if (found := await self._ask(upload, name, max_seconds)) is not None:
                break
        else:
            message = f"{name}: not audio that can be decoded; convert it to wav"
            raise Refusal(400, message, "audio_not_decodable", "file")
        kind, payload = found
        if kind == SAMPLES:
            return np.frombuffer(payload, np.float32).copy()  # which may be written to, as torch wants it
        if kind == TOO_LONG:
            raise Refusal(413, payload.decode(), "audio_too_long", "file")
        raise Refusal(400, payload.decode(), "audio_not_decodable", "file")

    async def _ask(self, upload: UploadFile, name: str, max_seconds: Seconds) -> tuple[int, bytes] | None:
        """The reply of the next process that is free; None: it has died."""
        child = await self._idle.get()
        alive = None
        try:
            child = child or await _Child.start()
            reply = await child.ask(upload, name, max_seconds)
            alive = child
            return reply
        except (ConnectionError, ChildProcessError, EOFError):  # EOFError: asyncio's IncompleteReadError
            return None
        finally:
            if alive is None:  # dead, or in the middle of an answer that nobody waits for
                self._on_death()
                if child is not None:
                    child.kill()
                    self._killed = [c for c in self._killed if c.process.returncode is None] + [child]
            self._idle.put_nowait(alive)


class _Child:
    def __init__(self, process: asyncio.subprocess.Process):
        self.process = process

    @classmethod
    async def start(cls) -> _Child:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        environment = {k: v for k, v in os.environ.items() if k in ENVIRONMENT or k.startswith("LC_")}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each takes address space
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "s3router.server.decoder"),
            **{"stdin": pipe, "stdout": pipe, "stderr": nothing, "env": environment, "start_new_session": True},
        )
        child = cls(process)
        try:
            if await process.stdout.read(1) != READY:
                raise ChildProcessError(f"{sys.executable} -m s3router.server.decoder does not start; run it by hand")
        except BaseException:
            child.kill()
            raise
        return child

    async def ask(self, upload: UploadFile, name: str, max_seconds: Seconds) -> tuple[int, bytes]:
        encoded, size = name.encode(errors="replace"), upload.size or 0
        self.process.stdin.write(REQUEST.pack(len(encoded), size, max_seconds) + encoded)
        await upload.seek(0)  # another process may have read some of it, and died
        for start in range(0, size, CHUNK):
            self.process.stdin.write(await upload.read(min(CHUNK, size - start)))
            await self.process.stdin.drain()
        await self.process.stdin.drain()
        kind, size = REPLY.unpack(await self.process.stdout.readexactly(REPLY.size))
        return kind, await self.process.stdout.readexactly(size)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.kill()
            await self.process.wait()
