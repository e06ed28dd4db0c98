"""The HTTP interface: OpenAI's paths, ``/health``, ``/metrics``, the page, and an analysis of the packs."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import uuid
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from s3router import __version__
from s3router.errors import S3RouterError
from s3router.server.answers import Record, Stream, answer
from s3router.server.catalogue import Catalogue, Found
from s3router.server.decoding import Decoders
from s3router.server.engine import Engine
from s3router.server.limits import Limits
from s3router.server.refusal import FAULT, Refusal, body_of
from s3router.server.uploads import close_uploads, deadline_at, form_of, unless_gone
from s3router.serving.choice import AUTO

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
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
        analysis: a folder that `s3router analyze` wrote; None: there is none.
    """

    engine: Engine
    catalogue: Catalogue
    decoders: Decoders
    limits: Limits
    upstream: str
    key: str | None = None
    hosts: tuple[str, ...] | None = None
    loading: bool = False
    analysis: Path | None = None


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
        app.add_middleware(_CalledBy, hosts=service.hosts, pages=service.key is not None)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    _add_general(app, service)
    _add_models(app, service)
    _add_transcriptions(app, service)
    if service.analysis is not None:
        app.mount("/analysis", StaticFiles(directory=service.analysis, html=True))
    return app


class _CalledBy:
    """Refuses requests that call the server by other names than these; unless `pages`, what other hosts' pages post."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], pages: bool):
        self._app, self._hosts, self._pages = app, hosts, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and self._name(scope) not in self._hosts:
            message = f"this server answers as {', '.join(self._hosts)}; --host lets other machines and names in"
            app = JSONResponse(body_of(Refusal(400, message, "invalid_host")), 400)
        elif scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS") and self._elsewhere(scope):
            message = "a page from elsewhere may not use this server, which asks for no key; use its own page at /"
            app = JSONResponse(body_of(Refusal(403, message, "invalid_origin")), 403)
        await app(scope, receive, send)

    def _elsewhere(self, scope: Scope) -> bool:
        """Whether a browser says that a page of another host sends this, which it may send without asking first."""
        origin = Headers(scope=scope).get("origin")
        if origin is None or self._pages:
            return False
        host = re.sub(r":\d*$", "", origin.lower().partition("://")[2])
        return host not in self._hosts

    @staticmethod
    def _name(scope: Scope) -> str:
        """The host that was asked for, without its port."""
        return re.sub(r":\d*$", "", Headers(scope=scope).get("host", "")).lower()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(body_of(error), error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(body_of(FAULT), FAULT.status_code)


def _add_general(app: FastAPI, service: Service) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return HTMLResponse(PAGE.read_bytes(), headers=headers)

    @app.head("/health", include_in_schema=False)
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
            "analysis": service.analysis is not None,
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

    def described(found: Found, resident: Mapping[str, int]) -> dict[str, Any]:
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
            "resident_bytes": resident.get(found.route, 0),
        }

    def surest(routes: Collection[Found]) -> list[dict[str, Any]]:
        several = sum(found.transcribes for found in routes) > 1
        about = {"object": "model", "created": 0, "owned_by": "s3router", "parent": service.upstream}
        return [{"id": AUTO} | about] if several else []

    @app.get("/v1/models", dependencies=authorised)
    def models() -> dict[str, Any]:
        """A model for each route; ``auto`` stands for the surest of those that transcribe."""
        routes = list(service.catalogue.routes.values())
        resident = service.engine.resident  # made anew whenever it is asked for
        listed = [described(found, resident) for found in routes]
        return {"object": "list", "data": [*listed, *surest(routes)]}

    @app.get("/v1/models/{name}", dependencies=authorised)
    def model(name: str) -> dict[str, Any]:
        """One of them."""
        known = service.catalogue.routes
        if name == AUTO and name not in known and (found := surest(known.values())):
            return found[0]
        return described(one(name), service.engine.resident)

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
        return described(found, service.engine.resident)

    @app.post("/v1/models/{name}/unload", dependencies=authorised)
    async def unload(name: str) -> dict[str, Any]:
        """Have it out of memory; the next request loads it again, unless its pack has gone."""
        found = None if name in service.engine.resident else await asyncio.to_thread(one, name)
        await asyncio.wrap_future(service.engine.unload(name))
        found = found or service.catalogue.routes.get(name)
        return {"id": name, "object": "model", "resident_bytes": 0} if found is None else described(found, {})


def _add_transcriptions(app: FastAPI, service: Service) -> None:
    under_way = 0
    metrics, parts = service.engine.metrics, (service.catalogue, service.decoders, service.engine, service.limits)
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
        record = Record(uuid.uuid4().hex)
        with contextlib.ExitStack() as stack:
            stack.callback(record.close, metrics)
            try:
                stack.enter_context(admitted())
                deadline = asyncio.get_running_loop().time() + service.limits.timeout
                async with deadline_at(deadline, service.limits.timeout):
                    form = await form_of(request, service.limits)
                    stack.callback(close_uploads, form)
                    response = await unless_gone(request, answer(form, *parts, record))
                if isinstance(response, Stream):
                    response.held, response.until, response.seconds = stack.pop_all(), deadline, service.limits.timeout
            except HTTPException as error:
                record.status = error.status_code
                error.headers = {**(error.headers or {}), "x-request-id": record.id}
                raise
            except Exception:
                record.status = 500
                raise
        response.headers["x-request-id"] = record.id
        return response


def _authorised(service: Service) -> Any:
    expected = None if service.key is None else f"Bearer {service.key}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if expected is not None and not hmac.compare_digest(given, expected):
            raise Refusal(401, "a key is needed: Authorization: Bearer KEY", "invalid_api_key")

    return check


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
