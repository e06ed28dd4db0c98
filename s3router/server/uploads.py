"""The request's side of a transcription: its fields, read up to a limit; its time; whether anybody still waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect
from starlette.types import Message

from s3router.data.audio import Seconds
from s3router.server.limits import Limits
from s3router.server.refusal import Refusal

MAX_FIELDS = 64


async def form_of(request: Request, limits: Limits) -> FormData:
    """The fields of a request.

    Raises:
        Refusal: larger than the limit, not a form, or cut off.
    """
    too_large = Refusal(
        413, f"more than {limits.upload_mb:g} MB; cut the recording, or compress it", "too_large", "file"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.upload_bytes:
        raise too_large
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Refusal(400, f"multipart/form-data is needed, not {kind or 'nothing'}", "invalid_value")
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limits.upload_bytes:
            raise too_large
        return message

    try:
        return await Request(request.scope, receive).form(max_files=1, max_fields=MAX_FIELDS)
    except ClientDisconnect:
        raise _gone() from None


def close_uploads(form: FormData) -> None:
    """Remove their temporary files."""
    for value in form.values():
        if not isinstance(value, str):
            value.file.close()


@contextlib.asynccontextmanager
async def deadline_at(when: float, seconds: Seconds) -> AsyncIterator[None]:
    """Refuse what the block has not done then.

    Args:
        when: on the event loop's clock.
        seconds: how long that was, for the message.
    """
    try:
        async with asyncio.timeout_at(when):
            yield
    except TimeoutError:
        raise Refusal(503, f"not done within {seconds:g} s; try again later", "timeout", retry_after=30) from None


async def unless_gone[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is cancelled when whoever asked for it goes away."""

    async def gone() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.2)

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise _gone()
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _gone() -> Refusal:
    """Nobody reads this; it is for the log."""
    return Refusal(499, "the client has gone")
