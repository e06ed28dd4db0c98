"""Downloading large files: resumed, checked by size and SHA-256, put in place whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import CheckpointError
from s3router.files import write_json
from s3router.upstreams.checkpoint import first_line
from s3router.upstreams.wheel_parts import join_parts

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30  # of a connection, or of silence on one
_ATTEMPTS = 5  # a broken connection is taken up again, as long as each attempt brought something
_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network.

    Args:
        url: http(s) address.
        size: published number of bytes, where known.
        sha256: published SHA-256 (64 hexadecimal digits), where known.
        wheels: where the address cannot be reached, Python wheels that carry the file in parts
            (`s3router.upstreams.wheel_parts`). ``sha256`` is the proof, and has to be known.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    wheels: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """The file's name, the last part of the address."""
        return self.url.split("?")[0].rsplit("/", 1)[-1]


class Ledger:
    """``checksums.json`` of a folder: size and SHA-256 of every file in it, written when a file is first seen.

    From then on a file must be what it was. It is hashed again only when its size or time of change differ, so that
    opening a checkpoint costs nothing. In a folder that may only be read nothing is recorded.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "checksums.json"

    def check(self, file: Path, remote: RemoteFile, stated: str | None = None) -> str:
        """The SHA-256 of a file in the folder, after it was compared with all that is known of it.

        Args:
            stated: SHA-256 that the server stated during the download.

        Raises:
            CheckpointError: it is not the published file, or not the one that was recorded.
        """
        status, entry = file.stat(), self.describe(file)
        seen = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        unchanged = entry is not None and all(entry.get(name) == value for name, value in seen.items())
        digest = entry["sha256"] if unchanged else sha256_of(file)
        self.compare(file, digest, status.st_size, remote, stated)
        if not unchanged and _writable(self.folder):
            checked = "published" if remote.sha256 else "stated by the server" if stated else "first seen"
            date = datetime.datetime.now(datetime.UTC).date().isoformat()
            known = entry or {"url": remote.url, "checked": checked, "date": date}
            self._write(file, {**known, "sha256": digest, **seen})
        return digest

    def compare(self, file: Path, digest: str, size: int, remote: RemoteFile, stated: str | None = None) -> None:
        """Raise a CheckpointError unless a file of this hash and size may stand at ``file``."""
        if remote.size is not None and size != remote.size:
            raise CheckpointError(_not_the_file(file, f"{size} bytes", f"{remote.size}", "published"))
        recorded = (self.describe(file) or {}).get("sha256")
        for wanted, what in (
            (remote.sha256, "published"),
            (stated, "stated by the server"),
            (recorded, f"recorded in {self.path}; if the new one is meant, remove its entry there"),
        ):
            if wanted is not None and digest != wanted:
                raise CheckpointError(_not_the_file(file, f"SHA-256 {digest}", wanted, what))

    def describe(self, file: Path) -> dict[str, Any] | None:
        """What is recorded of a file, or None."""
        return self._read().get(file.relative_to(self.folder).as_posix())

    def _read(self) -> dict[str, dict]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.path}: not valid JSON ({error}). Repair it, or remove it.") from error
        return content if isinstance(content, dict) else {}

    def _write(self, file: Path, entry: dict[str, Any]) -> None:
        with locked(self.path):
            content = self._read() | {file.relative_to(self.folder).as_posix(): entry}
            write_json(self.path, {name: dict(sorted(content[name].items())) for name in sorted(content)})


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock ``FILE.lock``, against other processes that want the same file.

    A file that is there in a folder that may only be read (a mount of a container, say) needs none.
    """
    from filelock import FileLock

    if file.is_file() and not _writable(file.parent):
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def download(remote: RemoteFile, target: Path) -> str | None:
    """Bring a file to ``TARGET.part``, going on from what is there already.

    Returns:
        The SHA-256 that the server stated (huggingface.co does), or None.

    Raises:
        OSError, http.client.HTTPException: what the network or the disk said. The part that came stays.
    """
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _transfer(remote, part)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before and not attempt:  # what is there is no beginning of that file
                part.unlink()
                continue
            raise
        except (OSError, http.client.HTTPException):
            if attempt + 1 == _ATTEMPTS or not part.exists() or part.stat().st_size <= before:
                raise
    raise OSError("the connection broke too often")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps what huggingface.co says of a file (its SHA-256) when it sends us on to where the file is."""

    stated: str | None = None

    def redirect_request(self, request, response, code, message, headers, url):
        self.stated = _stated(headers) or self.stated
        return super().redirect_request(request, response, code, message, headers, url)


def _stated(headers: Any) -> str | None:
    tag = (headers.get("X-Linked-ETag") or "").strip('"').lower()
    return tag if _SHA256.fullmatch(tag) else None


def _transfer(remote: RemoteFile, part: Path) -> str | None:
    have = part.stat().st_size if part.exists() else 0
    marker = part.with_name(part.name + ".etag")  # a file that changed on the server is not gone on with
    request = urllib.request.Request(remote.url, headers={"User-Agent": "s3router"})
    if have and marker.exists():
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", marker.read_text(encoding="utf-8"))
    redirects = _Redirects()
    with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS) as response:
        resumed = response.status == 206
        total = (have if resumed else 0) + int(response.headers.get("Content-Length") or 0)
        if remote.size is not None and total and total != remote.size:
            raise OSError(f"the server offers {total} bytes, but {remote.size} are published")
        free = shutil.disk_usage(part.parent).free
        if total - have > free:
            raise OSError(f"{total - have} bytes to come, but {part.parent} has {free} free")
        if tag := response.headers.get("ETag") or response.headers.get("Last-Modified"):
            marker.write_text(tag, encoding="utf-8")
        else:
            marker.unlink(missing_ok=True)
        with part.open("ab" if resumed else "wb") as stream, _progress(part, total, have if resumed else 0) as moved:
            while block := response.read(_BLOCK):
                stream.write(block)
                moved(len(block))
            stream.flush()
            os.fsync(stream.fileno())
        if total and part.stat().st_size != total:
            raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
        marker.unlink(missing_ok=True)
        return redirects.stated or _stated(response.headers)


@contextlib.contextmanager
def _progress(part: Path, total: int, have: int) -> Iterator[Any]:
    if not sys.stderr.isatty():
        logger.info("downloading %s (%.0f MB)", part.stem, total / 1e6)
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total or None, initial=have, desc=part.stem, unit="B", unit_scale=True) as bar:
        yield bar.update


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


COPY = "give your copy with --upstream-ckpt"


def fetch_file(
    remote: RemoteFile, target: Path, ledger: Ledger, what: str, refresh: bool = False, otherwise: str = COPY
) -> Path:
    """``target``, downloaded unless it is there, and checked either way.

    Args:
        ledger: of the folder that ``target`` lies in.
        what: what the file is for, as messages name it.
        refresh: download it even where it is there.
        otherwise: what else a user can do where it cannot be downloaded.

    Raises:
        CheckpointError: it cannot be downloaded (the message says where to put it by hand), or is not the right file.
    """
    with locked(target):
        stated = None
        if not target.is_file() or refresh:
            try:
                stated = _from_anywhere(remote, target)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", None) or error
                raise CheckpointError(
                    f"{what}: {remote.url} cannot be downloaded ({first_line(_exception(reason))}). Fetch it elsewhere "
                    f"and put it at {target}, or {otherwise}."
                ) from error
            put_in_place(target.with_name(target.name + ".part"), target, ledger, remote, stated)
        ledger.check(target, remote, stated)
    return target


def _from_anywhere(remote: RemoteFile, target: Path) -> str | None:
    """`download`, or, where that fails, the parts of it in wheels."""
    try:
        return download(remote, target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not remote.wheels:
            raise
        logger.info("%s cannot be reached (%s)", remote.url, first_line(_exception(getattr(error, "reason", error))))
        join_parts(remote.wheels, target.with_name(target.name + ".part"))
        return None


def put_in_place(new: Path, target: Path, ledger: Ledger, remote: RemoteFile, stated: str | None = None) -> None:
    """Rename ``new`` to ``target`` if it is the right file; remove it otherwise, so that nothing goes on from it."""
    try:
        ledger.compare(target, sha256_of(new), new.stat().st_size, remote, stated)
    except CheckpointError:
        new.unlink()
        raise
    new.replace(target)


def _exception(reason: Any) -> BaseException:
    return reason if isinstance(reason, BaseException) else OSError(str(reason))


def _not_the_file(file: Path, found: str, wanted: str, what: str) -> str:
    return (
        f"{file}: not the expected file: {found}, expected {wanted} ({what}). It may be cut short, damaged or of "
        "another release: remove it to have it downloaded again, or put the right one there."
    )
