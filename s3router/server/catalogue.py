"""The packs that a server knows: those that it was given, and those that come to lie in its folders."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.errors import ConfigError, PackError
from s3router.packs import PackMeta
from s3router.packs.contents import language_of
from s3router.packs.pack_file import read_parts
from s3router.upstreams.routes import unknown_route

logger = logging.getLogger(__name__)

RESCAN = 1.0  # seconds between two looks at the disk

Stamp = tuple[int, int, int, int]  # a file's inode, bytes, and times of change: of its content, of its permissions


@dataclass(frozen=True)
class Found:
    """A pack on disk.

    Attributes:
        route: its name.
        path: its file.
        stamp: tells one content of the file from another.
        seen: counts what was found, so that a later one has more.
        kind: ``ctc``, ``recogniser`` (a whole one) or ``classifier``.
        meta: what it says of itself.
    """

    route: str
    path: Path
    stamp: Stamp
    kind: str
    meta: PackMeta
    seen: int = 0

    @property
    def nbytes(self) -> int:
        """Of the file."""
        return self.stamp[1]

    @property
    def transcribes(self) -> bool:
        """Whether it writes text."""
        return self.kind != "classifier"

    @property
    def language(self) -> str | None:
        """The language's code, from its settings, or from the route's name if that looks like one; None: unknown."""
        return language_of(self.route, self.meta)


class _Unreadable(str):
    """What is wrong with a pack that could not even be read."""


class Catalogue:
    """Routes by name. Safe to use from any thread.

    Args:
        sources: packs, or folders of them (``*.pack``).
        fingerprint: whether for whole recognisers -> fingerprint of the backbone here; None: no such backbone.

    Raises:
        PackError: one of the packs is damaged, or for another backbone.
        ConfigError: two packs have one route; no pack is there at all; a folder or file is missing.
    """

    def __init__(self, sources: Sequence[Path], fingerprint: Callable[[bool], str | None]):
        self._sources, self._fingerprint = list(sources), fingerprint
        self._lock = threading.Lock()
        self._known: dict[Path, Found | str] = {}  # str: what is wrong with it
        self._said: set[str] = set()
        self._stamps: dict[Path, Stamp | None] = {}
        self._routes: dict[str, Found] = {}
        self._looked, self._seen = -RESCAN, 0
        self._given = {path for path in self._sources if not path.is_dir()}
        self._look(first=True)
        if problems := [self._known[path] for path in self._given if isinstance(self._known.get(path), str)]:
            raise PackError(problems[0])
        if not self._routes:
            raise ConfigError(f"no pack in {', '.join(map(str, self._sources))}; write one with s3router pack")

    @property
    def routes(self) -> dict[str, Found]:
        """All routes, as they lie on disk now; looks at most once a second, and in one thread at a time."""
        if self._lock.acquire(blocking=False):
            try:
                if time.monotonic() - self._looked >= RESCAN:
                    self._look()
            finally:
                self._lock.release()
        return dict(self._routes)

    def route(self, name: str) -> Found:
        """One of them. Raises ConfigError for unknown ones."""
        routes = self.routes
        if name not in routes:
            raise unknown_route(name, routes)
        return routes[name]

    def _look(self, first: bool = False) -> None:
        files = packs_in(self._sources)
        for path in self._known.keys() - set(files):
            del self._known[path], self._stamps[path]
        for path in files:
            stamp = stamp_of(path)
            if path in self._stamps and self._stamps[path] == stamp:
                continue
            read = self._read(path, stamp)
            self._stamps[path] = None if isinstance(read, _Unreadable) else stamp  # which may pass: look again
            if isinstance(read, Found) or not isinstance(self._known.get(path), Found):
                self._known[path] = read
            if isinstance(read, str):  # one that was good goes on as it was, as long as it is in memory
                self._say(read)
        routes: dict[str, Found] = {}
        for found in self._known.values():
            if isinstance(found, str):
                continue
            other = routes.setdefault(found.route, found)
            if other is not found:
                message = f"{other.path} and {found.path} are both of route {found.route!r}; give one another name"
                if first:
                    raise ConfigError(message)
                self._say(message)
        self._routes, self._looked = routes, time.monotonic()

    def _say(self, reason: str) -> None:
        """In the log, once."""
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("pack left out", extra={"fields": {"reason": reason}})

    def _read(self, path: Path, stamp: Stamp | None) -> Found | str:
        if stamp is None:
            return f"{path}: no such pack; correct the path, or write one with s3router pack"
        try:
            description = read_parts(path).description
        except PackError as error:
            return _Unreadable(error) if isinstance(error.__context__, OSError) else str(error)
        meta = description.meta
        kind = "recogniser" if meta.whole else "classifier" if description.tokens is None else "ctc"
        here = self._fingerprint(meta.whole)
        if here is None:
            return f"{path}: for a whole recogniser, which was not loaded; start the server again with it"
        if meta.fingerprint != here:
            return f"{path}: for another backbone ({meta.backbone}, fingerprint {meta.fingerprint}; this one is {here})"
        self._seen += 1
        return Found(description.route, path, stamp, kind, meta, self._seen)


def packs_in(sources: Collection[Path]) -> list[Path]:
    """The files behind these packs and folders, each once, by name within a folder."""
    files = [file for path in sources for file in (sorted(path.glob("*.pack")) if path.is_dir() else [path])]
    return list(dict.fromkeys(files))


def stamp_of(path: Path) -> Stamp | None:
    """None: the file has gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
