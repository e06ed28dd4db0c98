"""The answer's side of a transcription: whole or as a stream, and what is written down of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from s3router.data.audio import Seconds
from s3router.server.catalogue import Catalogue
from s3router.server.decoding import Decoders
from s3router.server.engine import Engine
from s3router.server.formats import blank_between, subtitles, text_of, verbose, verbose_segment
from s3router.server.limits import Limits
from s3router.server.metrics import Metrics
from s3router.server.refusal import FAULT, body_of
from s3router.server.transcription import Transcription
from s3router.server.uploads import deadline_at
from s3router.server.wanted import SUBTITLES, Wanted

logger = logging.getLogger(__name__)

UNREAD: Seconds = 10.0
"""How long after its time a stream may go on being sent to a client that hardly reads."""


@dataclass
class Record:
    """What the log and the metrics say of a request: nothing of its content.

    Attributes:
        id: of the request.
        model, candidates: what was asked for.
        seconds, pieces: of the recording.
        status: of the answer.
        timing: of the `Transcription`.
        started: on the clock `time.monotonic`.
    """

    id: str
    model: str = ""
    candidates: int = 0
    seconds: Seconds = 0.0
    pieces: int = 0
    status: int = 200
    timing: dict[str, float] | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def milliseconds(self) -> float:
        """Since it came."""
        return 1000 * (time.monotonic() - self.started)

    def close(self, metrics: Metrics) -> None:
        """Write it down."""
        took = self.milliseconds
        metrics.requests.labels(self.model or "none", str(self.status)).inc()
        metrics.request.observe(took / 1000)
        fields = {"id": self.id, "status": self.status, "model": self.model, "candidates": self.candidates}
        fields |= {"seconds": round(self.seconds, 3), "pieces": self.pieces, "total_ms": round(took, 1)}
        fields |= {f"{name}_ms": round(value, 1) for name, value in (self.timing or {}).items()}
        logger.info("transcription", extra={"fields": fields})


async def answer(
    form: FormData, catalogue: Catalogue, decoders: Decoders, engine: Engine, limits: Limits, record: Record
) -> Response:
    """The answer to a request's fields; of a stream, before its first event.

    Raises:
        Refusal: as `Wanted.of` and `Transcription`.
    """
    known = None if engine.classifier is None else engine.classifier.languages
    wanted = await asyncio.to_thread(Wanted.of, form, catalogue, known)
    record.model, record.candidates = wanted.model, len(wanted.routes)
    work = await Transcription.begin(wanted, decoders, engine, limits)
    record.seconds, record.pieces = work.seconds, len(work.pieces)
    if wanted.stream:
        return Stream(work, record)
    segments = [segment async for segment in work.segments()]
    record.timing = work.timing
    if wanted.form == "text":
        return PlainTextResponse(text_of(segments) + "\n")
    if wanted.form in SUBTITLES:
        return PlainTextResponse(subtitles(segments, wanted.form))
    if wanted.form == "json":
        usage = {"type": "duration", "seconds": -int(-work.seconds // 1)}
        return JSONResponse({"text": text_of(segments), "usage": usage})
    timing = work.timing | {"total": record.milliseconds}
    return JSONResponse(verbose(segments, wanted.routes, work.seconds, wanted.words, timing))


class Stream(StreamingResponse):
    """Server-sent events. An error comes as an event, since the status was sent before.

    Attributes:
        held: ends with the stream, whether it was read to its end or not.
        until: on the event loop's clock: what is not heard then is given up, and soon after that who does not read.
        seconds: how long that was, for the message.
    """

    held: contextlib.ExitStack
    until: float
    seconds: Seconds

    def __init__(self, work: Transcription, record: Record):
        super().__init__(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.work, self.record = work, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            try:
                async with asyncio.timeout_at(self.until + UNREAD):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                self.record.status = 503
            finally:
                self.work.cancel()

    async def _lines(self) -> AsyncIterator[str]:
        events = _events(self.work, self.record)
        try:
            while True:
                async with deadline_at(self.until, self.seconds):  # not while a line is being sent
                    event = await anext(events, None)
                if event is None:
                    break
                yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            yield "data: [DONE]\n\n"
        except HTTPException as error:
            yield self._refused(error)
        except Exception:
            logger.exception("a stream failed", extra={"fields": {"id": self.record.id}})
            yield self._refused(FAULT)

    def _refused(self, error: HTTPException) -> str:
        """The last event, instead of the rest; the status is for the log and the metrics."""
        self.record.status = error.status_code
        return f"data: {json.dumps(body_of(error), ensure_ascii=False)}\n\n"


async def _events(work: Transcription, record: Record) -> AsyncIterator[dict[str, Any]]:
    """OpenAI's events of a stream: a delta for each piece, then the whole; with what was asked for of both."""
    wanted, segments, before = work.wanted, [], None
    languages = {found.route: found.language or found.route for found in wanted.routes}
    async for segment in work.segments():
        segments.append(segment)
        heard = segment.heard
        text = blank_between(before, heard) + heard.text if heard.text else ""
        before = heard if heard.text else before
        event: dict[str, Any] = {"type": "transcript.text.delta", "delta": text}
        if wanted.form == "verbose_json":
            event["segment"] = verbose_segment(len(segments) - 1, segment, languages)
        yield event
    record.timing = work.timing
    done: dict[str, Any] = {"type": "transcript.text.done", "text": text_of(segments)}
    if wanted.form == "verbose_json":
        timing = work.timing | {"total": record.milliseconds}
        done |= verbose(segments, wanted.routes, work.seconds, wanted.words, timing)
    yield done
