"""A server from packs and options: loaded, bound to an address, run until it is told to stop."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import logging
import math
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.audio import Seconds
from s3router.errors import ConfigError, PackError
from s3router.packs import write_pack
from s3router.packs.pack_file import read_parts
from s3router.server.app import Service, create_app
from s3router.server.catalogue import Catalogue, packs_in
from s3router.server.decoding import Decoders
from s3router.server.engine import Engine
from s3router.server.limits import Limits
from s3router.server.metrics import Metrics
from s3router.serving.language_classifier import LanguageClassifier
from s3router.serving.loading import backbone_of, load_backbone, pack_of_folder

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        sources: packs, folders of packs, experiment folders.
        langid: a language classifier (`s3router langid --fit`) that chooses for ``auto``; None: confidences do.
        upstream, ckpt, device: of the backbone, as of `s3router.serving.loading.load_routes`.
        batches: how pieces are put together; ``batch_seconds`` 0 computes each by itself.
        wait: seconds that the queue waits for others to come.
        pack_mb: packs in memory, in units of 1e6 bytes.
        ready_mb: changed weights of routes that are kept ready, in units of 1e6 bytes; those of one route always are.
        key, loading, analysis: as of `s3router.server.app.Service`.
        limits: of requests.
    """

    sources: Sequence[Path]
    langid: Path | None = None
    upstream: str | None = None
    ckpt: str | None = None
    device: str = "cpu"
    batches: BatchOptions = field(default_factory=lambda: BatchOptions(batch_seconds=0))
    wait: Seconds = 0.01
    pack_mb: float = 1000.0
    ready_mb: float = 600.0
    key: str | None = None
    loading: bool = False
    analysis: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.wait <= 1:
            raise ConfigError(f"{1000 * self.wait:g} ms of waiting for others: expected 0 to 1000")
        if not 0 < self.pack_mb < math.inf:
            raise ConfigError(f"{self.pack_mb:g} MB of packs: expected a number above 0")
        if not 0 <= self.ready_mb < math.inf:
            raise ConfigError(f"{self.ready_mb:g} MB of weights kept ready: expected a number from 0")
        if self.analysis is not None and not (self.analysis / "index.html").is_file():
            raise ConfigError(f"{self.analysis}: no analysis in it (index.html); s3router analyze -o writes one")


@contextlib.contextmanager
def service(settings: Settings, host: str = LOOPBACK[0]) -> Iterator[Service]:
    """What `s3router.server.app.create_app` takes; experiments are packed for the length of the block.

    Raises:
        As `s3router.serving.loading.load_backbone` and `Catalogue`.
    """
    with tempfile.TemporaryDirectory(prefix="s3router-") as folder:
        sources = [_packed(path, Path(folder)) if _is_experiment(path) else path for path in settings.sources]
        packs = _of_each_kind(sources)
        if not packs:
            raise ConfigError(f"no pack in {', '.join(map(str, sources))}; write one with s3router pack")
        classifier = None if settings.langid is None else LanguageClassifier.load(settings.langid)
        named = settings.sources[0] if _is_experiment(settings.sources[0]) else packs[0]
        upstream, ckpt = backbone_of(named, settings.upstream, settings.ckpt)
        model = load_backbone(packs, upstream, ckpt, settings.device).eval()
        if classifier is not None:
            classifier.check_backbone(model.upstream)
        fingerprints = {False: model.upstream.backbone_fingerprint}
        model.upstream.routes.working_bytes = ready = round(settings.ready_mb * 1e6) // len(packs)  # of each kind
        if model.whole is not None:
            fingerprints[True] = model.whole.fingerprint
            model.whole.routes.working_bytes = ready
        metrics = Metrics()
        yield Service(
            Engine(model, round(settings.pack_mb * 1e6), metrics, settings.wait, settings.batches, classifier),
            Catalogue(sources, fingerprints.get),
            Decoders(settings.limits.decoders, metrics.decoder_deaths.inc),
            settings.limits,
            upstream,
            settings.key,
            (*LOOPBACK, "[::1]") if host in LOOPBACK else None,
            settings.loading,
            settings.analysis,
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 takes a free one. Raises ConfigError where it cannot be had."""
    if not 0 <= port <= 65535:  # of which getaddrinfo would take the remainder
        raise ConfigError(f"--port {port}: expected 0 to 65535")
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        todo = "correct --host, which must be an address of this machine" if elsewhere else "take another --port"
        if error.errno == errno.EACCES:
            todo += ", above 1023 without root"
        raise ConfigError(f"{host}:{port}: cannot be listened on ({error.strerror}); {todo}") from None
    return sock


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class Server:
    """An HTTP server around a `Service`.

    Args:
        given: what to serve.
        sock: where (`bind`).
        ready: called with the address as soon as requests are answered.
    """

    def __init__(self, given: Service, sock: socket.socket, ready: Callable[[str], None] = lambda url: None):
        config = uvicorn.Config(
            create_app(given),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(given.limits.timeout),
        )
        host, port = sock.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._server, self._sock = _Uvicorn(config, lambda: ready(self.url)), sock

    def run(self) -> None:
        """Serve until a signal comes, or `stop`. What was accepted until then is answered."""
        try:
            self._server.run(sockets=[self._sock])
        except (KeyboardInterrupt, SystemExit):  # uvicorn raises the signal again after it has stopped
            if not self._server.should_exit:
                raise
        if not self._server.started:
            raise ConfigError("the server did not start; its log says why")

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[str]:
        """Serve in a thread for the length of the block, which gets the address."""
        thread = threading.Thread(target=self.run, name="server")
        thread.start()
        try:
            while not self._server.started:
                if not thread.is_alive():
                    raise ConfigError("the server did not start; the log says why")
                thread.join(0.02)
            yield self.url
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """Take no more requests, answer those that are there, and end."""
        self._server.should_exit = True


class JsonLines(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event; the record's ``fields``; a traceback if there is one."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        values = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        values |= getattr(record, "fields", {})
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False)


def log_to_stderr() -> None:
    """All of this package's records of level info, and warnings of others, as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: record.name.startswith("s3router.server") or record.levelno >= logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _of_each_kind(sources: Sequence[Path]) -> list[Path]:
    """The first pack, and the first of the other kind: enough to know which model to load.

    Raises:
        PackError: one that was named itself cannot be read. Those in folders are left out here, and by the catalogue.
    """
    found: dict[bool, Path] = {}
    for path in packs_in(sources):
        try:
            found.setdefault(read_parts(path).description.meta.whole, path)
        except PackError:
            if path in sources:
                raise
    return list(found.values())


def _is_experiment(path: Path) -> bool:
    return path.is_dir() and not any(path.glob("*.pack"))


def _packed(folder: Path, into: Path) -> Path:
    pack = pack_of_folder(folder)
    path = into / f"{pack.route}.pack"
    if path.exists():
        raise ConfigError(f"{folder}: there is another experiment of that name; pack both, with other names")
    write_pack(path, pack)
    return path
