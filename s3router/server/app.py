"""The HTTP interface: OpenAI's paths, ``/health``, ``/metrics`` and the page."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from s3router import __version__
from s3router.data.audio import Seconds
from s3router.errors import S3RouterError
from s3router.server.catalogue import AUTO, Catalogue, Found
from s3router.server.decoding import Decoders
from s3router.server.engine import Engine
from s3router.server.formats import subtitles, text_of, verbose, verbose_segment
from s3router.server.limits import Limits
from s3router.server.refusal import Refusal, body_of
from s3router.server.transcription import Transcription
from s3router.server.wanted import Wanted

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
MAX_FIELDS = 64
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src blob:; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Service:
    """What the application serves.

    Attributes:
        engine, catalogue, decoders, limits: see there.
        upstream: the backbone's name.
        key: what requests have to bring as a bearer token; None: nothing.
        hosts: names that requests may call this server by; None: any. (A page elsewhere could have its own name point
            here, and read the answers.)
        loading: routes may be loaded and unloaded over HTTP.
    """

    engine: Engine
    catalogue: Catalogue
    decoders: Decoders
    limits: Limits
    upstream: str
    key: str | None = None
    hosts: tuple[str, ...] | None = None
    loading: bool = False


def create_app(service: Service) -> FastAPI:
    """The application. It starts the engine and the decoders, and stops them when it is stopped."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.decoders.start()
        service.engine.start()
        yield
        await asyncio.to_thread(service.engine.stop)
        await service.decoders.stop()

    # FastAPI's own pages of documentation fetch scripts from elsewhere; /openapi.json says the same.
    app = FastAPI(title="s3router", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    if service.hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(service.hosts), www_redirect=False)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    _add_general(app, service)
    _add_models(app, service)
    _add_transcriptions(app, service)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(body_of(error), error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(body_of(HTTPException(500, "a fault of the server; its log says more")), 500)


def _add_general(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return HTMLResponse(PAGE.read_bytes(), headers=headers)

    @app.get("/health")
    def health() -> Response:
        """Whether transcriptions are answered, and what is in memory."""
        engine = service.engine
        resident = engine.resident
        found = {
            "status": "ok" if engine.alive else "failed",
            "version": __version__,
            "backbone": service.upstream,
            "routes": len(service.catalogue.routes),
            "resident": sorted(resident),
            "resident_bytes": sum(resident.values()),
            "memory_bytes": _resident_set(),
            "needs_key": service.key is not None,
        }
        return JSONResponse(found, 200 if engine.alive else 503)

    @app.get("/metrics", dependencies=[Depends(_authorised(service))])
    def metrics() -> Response:
        """Prometheus' text format."""
        return PlainTextResponse(service.engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_models(app: FastAPI, service: Service) -> None:
    authorised = [Depends(_authorised(service))]

    def one(name: str) -> Found:
        try:
            return service.catalogue.route(name)
        except S3RouterError as error:
            raise Refusal(404, str(error), "model_not_found", "model") from None

    def described(found: Found) -> dict[str, Any]:
        return {
            "id": found.route,
            "object": "model",
            "created": found.stamp[2] // 10**9,
            "owned_by": "s3router",
            "root": found.path.name,
            "parent": service.upstream,
            "kind": found.kind,
            "language": found.language,
            "pack_bytes": found.nbytes,
            "resident_bytes": service.engine.resident.get(found.route, 0),
        }

    @app.get("/v1/models", dependencies=authorised)
    def models() -> dict[str, Any]:
        """A model for each route; ``auto`` stands for the surest of those that transcribe."""
        routes = list(service.catalogue.routes.values())
        listed = [described(found) for found in routes]
        if sum(found.transcribes for found in routes) > 1:
            listed.append(
                {"id": AUTO, "object": "model", "created": 0, "owned_by": "s3router", "parent": service.upstream}
            )
        return {"object": "list", "data": listed}

    @app.get("/v1/models/{name}", dependencies=authorised)
    def model(name: str) -> dict[str, Any]:
        """One of them."""
        return described(one(name))

    if not service.loading:
        return

    @app.post("/v1/models/{name}/load", dependencies=authorised)
    async def load(name: str) -> dict[str, Any]:
        """Have a known route in memory before it is asked for."""
        found = await asyncio.to_thread(one, name)
        try:
            await asyncio.wrap_future(service.engine.load(found))
        except S3RouterError as error:
            logger.warning("not loaded", extra={"fields": {"route": name, "reason": str(error)}})
            raise Refusal(503, f"route {name}: its pack cannot be read; the server's log says why") from None
        return described(found)

    @app.post("/v1/models/{name}/unload", dependencies=authorised)
    async def unload(name: str) -> dict[str, Any]:
        """Have it out of memory; the next request loads it again."""
        found = await asyncio.to_thread(one, name)
        await asyncio.wrap_future(service.engine.unload(name))
        return described(found)


def _add_transcriptions(app: FastAPI, service: Service) -> None:
    under_way = 0
    metrics = service.engine.metrics
    metrics.in_flight.set_function(lambda: under_way)

    @contextlib.contextmanager
    def admitted() -> Iterator[None]:
        nonlocal under_way
        if under_way >= service.limits.requests:
            message = f"{under_way} transcriptions are under way, and no more are taken; try again later"
            raise Refusal(429, message, "queue_full", retry_after=5)
        under_way += 1
        try:
            yield
        finally:
            under_way -= 1

    @app.post("/v1/audio/transcriptions", dependencies=[Depends(_authorised(service))], openapi_extra=_SCHEMA)
    async def transcriptions(request: Request) -> Response:
        """Transcribe a recording, as OpenAI's API does."""
        record = _Record(uuid.uuid4().hex)
        with contextlib.ExitStack() as stack:
            stack.callback(record.close, metrics)
            try:
                stack.enter_context(admitted())
                deadline = asyncio.get_running_loop().time() + service.limits.timeout
                async with _deadline(deadline, service.limits.timeout):
                    form = await _form_of(request, service.limits)
                    stack.callback(_close_uploads, form)
                    response = await _unless_gone(request, _answer(form, service, record))
                if isinstance(response, _Stream):
                    response.held, response.deadline = stack.pop_all(), _deadline(deadline, service.limits.timeout)
            except HTTPException as error:
                record.status = error.status_code
                error.headers = {**(error.headers or {}), "x-request-id": record.id}
                raise
            except Exception:
                record.status = 500
                raise
        response.headers["x-request-id"] = record.id
        return response


async def _answer(form: FormData, service: Service, record: _Record) -> Response:
    classifier = service.engine.classifier
    known = None if classifier is None else classifier.languages
    wanted = await asyncio.to_thread(Wanted.of, form, service.catalogue, known)
    record.model, record.candidates = wanted.model, len(wanted.routes)
    work = await Transcription.begin(wanted, service.decoders, service.engine, service.limits)
    record.seconds, record.pieces = work.seconds, len(work.pieces)
    if wanted.stream:
        return _Stream(work, record)
    segments = [segment async for segment in work.segments()]
    record.timing = work.timing
    if wanted.form == "text":
        return PlainTextResponse(text_of(segments) + "\n")
    if wanted.form in ("srt", "vtt"):
        return PlainTextResponse(subtitles(segments, wanted.form))
    if wanted.form == "json":
        usage = {"type": "duration", "seconds": -int(-work.seconds // 1)}
        return JSONResponse({"text": text_of(segments), "usage": usage})
    timing = work.timing | {"total": record.milliseconds}
    return JSONResponse(verbose(segments, wanted.routes, work.seconds, wanted.words, timing))


async def _events(work: Transcription, record: _Record) -> AsyncIterator[dict[str, Any]]:
    """OpenAI's events of a stream: a delta for each piece, then the whole; with what was asked for of both."""
    wanted, segments, written = work.wanted, [], False
    languages = {found.route: found.language or found.route for found in wanted.routes}
    async for segment in work.segments():
        segments.append(segment)
        text = segment.heard.text
        event: dict[str, Any] = {"type": "transcript.text.delta", "delta": f" {text}" if written and text else text}
        written = written or bool(text)
        if wanted.form == "verbose_json":
            event["segment"] = verbose_segment(len(segments) - 1, segment, languages)
        yield event
    record.timing = work.timing
    done: dict[str, Any] = {"type": "transcript.text.done", "text": text_of(segments)}
    if wanted.form == "verbose_json":
        timing = work.timing | {"total": record.milliseconds}
        done |= verbose(segments, wanted.routes, work.seconds, wanted.words, timing)
    yield done


class _Stream(StreamingResponse):
    """Server-sent events. An error comes as an event, since the status was sent before.

    Attributes:
        held: ends with the stream, whether it was read to its end or not.
        deadline: the context in which it is made.
    """

    held: contextlib.ExitStack
    deadline: contextlib.AbstractAsyncContextManager[None]

    def __init__(self, work: Transcription, record: _Record):
        super().__init__(self._lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.work, self.record = work, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                self.work.cancel()

    async def _lines(self) -> AsyncIterator[str]:
        try:
            async with self.deadline:
                async for event in _events(self.work, self.record):
                    yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            yield "data: [DONE]\n\n"
        except HTTPException as error:
            self.record.status = error.status_code
            yield f"data: {json.dumps(body_of(error), ensure_ascii=False)}\n\n"


@dataclass
class _Record:
    """What the log says of a request: nothing of its content."""

    id: str
    model: str = ""
    candidates: int = 0
    seconds: Seconds = 0.0
    pieces: int = 0
    status: int = 200
    timing: dict[str, float] | None = None
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def milliseconds(self) -> float:
        return 1000 * (time.monotonic() - self.started)

    def close(self, metrics: Any) -> None:
        took = self.milliseconds
        metrics.requests.labels(self.model or "none", str(self.status)).inc()
        metrics.request.observe(took / 1000)
        fields = {"id": self.id, "status": self.status, "model": self.model, "candidates": self.candidates}
        fields |= {"seconds": round(self.seconds, 3), "pieces": self.pieces, "total_ms": round(took, 1)}
        fields |= {f"{name}_ms": round(value, 1) for name, value in (self.timing or {}).items()}
        logger.info("transcription", extra={"fields": fields})


def _authorised(service: Service) -> Any:
    expected = None if service.key is None else f"Bearer {service.key}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if expected is not None and not hmac.compare_digest(given, expected):
            raise Refusal(401, "a key is needed: Authorization: Bearer KEY", "invalid_api_key")

    return check


async def _form_of(request: Request, limits: Limits) -> FormData:
    """The fields of a request, read up to the limit."""
    too_large = Refusal(
        413, f"more than {limits.upload_mb:g} MB; cut the recording, or compress it", "too_large", "file"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.upload_bytes:
        raise too_large
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
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


def _gone() -> Refusal:
    """Nobody reads this; it is for the log."""
    return Refusal(499, "the client has gone")


def _close_uploads(form: FormData) -> None:
    for value in form.values():
        if not isinstance(value, str):
            value.file.close()


@contextlib.asynccontextmanager
async def _deadline(when: float, seconds: Seconds) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(when):
            yield
    except TimeoutError:
        raise Refusal(503, f"not done within {seconds:g} s; try again later", "timeout", retry_after=30) from None


async def _unless_gone[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
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


def _resident_set() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        import resource

        return int(file.read().split()[1]) * resource.getpagesize()


_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "model"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string", "description": "a route, or auto"},
                        "candidates": {"type": "string", "description": "routes that auto chooses among"},
                        "language": {"type": "string", "description": "of the recording; leaves auto its routes"},
                        "response_format": {"type": "string", "default": "json"},
                        "timestamp_granularities[]": {"type": "array", "items": {"type": "string"}},
                        "chunking_strategy": {"type": "string", "description": "auto: cut in every pause"},
                        "stream": {"type": "boolean", "default": False},
                    },
                }
            }
        },
    }
}
