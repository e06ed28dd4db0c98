"""What the processes that decode audio are given."""

from __future__ import annotations

import asyncio
import io

import pytest

pytest.importorskip("fastapi", reason="tools/setup.sh --with-serve")

from starlette.datastructures import UploadFile

from s3router.server.decoding import CHUNK, Decoders
from s3router.server.refusal import Refusal


class Upload(UploadFile):
    """Writes down how much of it is read."""

    def __init__(self, content: bytes, name: str, reads: list[tuple[str, int]]):
        super().__init__(io.BytesIO(content), size=len(content), filename=name)
        self.reads = reads

    async def read(self, size: int = -1) -> bytes:
        found = await super().read(size)
        self.reads.append((self.filename, len(found)))
        return found


def test_uploads_are_read_in_parts_when_a_process_is_free():
    """So what is in memory does not grow with the number and size of uploads."""
    reads: list[tuple[str, int]] = []

    async def decode() -> list:
        decoders = Decoders(1, lambda: None)
        await decoders.start()
        uploads = [Upload(bytes(3 * CHUNK + 1), name, reads) for name in ("a", "b", "c")]
        found = await asyncio.gather(*(decoders.decode(each, 10.0) for each in uploads), return_exceptions=True)
        await decoders.stop()
        return found

    assert all(isinstance(found, Refusal) and found.status_code == 400 for found in asyncio.run(decode()))
    assert reads == [(name, size) for name in ("a", "b", "c") for size in (CHUNK, CHUNK, CHUNK, 1)]
