"""A small hub: the parts of HuggingFace's HTTP API that push and pull reach through huggingface_hub, kept in memory.

Names and forms of paths, headers and answers are those of huggingface_hub's requests. Commits are real in that a
revision keeps its files; branches are moved by commits, and tags stay.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = ".pack"
"""Files of this ending go by LFS."""


@dataclass
class Repository:
    """Commits and names of them; ``gated`` and ``private`` ones are only for tokens."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of exactly these files at the end of a branch; returns its hash."""
        content = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in files.items()})
        oid = hashlib.sha1(f"{len(self.commits)}{content}".encode()).hexdigest()
        self.commits[oid], self.refs[branch] = dict(files), oid
        return oid


@dataclass
class Hub:
    """What a server has, and what it was asked.

    Attributes:
        tokens: that may write; ``read-only`` ones may read what is private.
        seen: method and path of each request.
    """

    tokens: set[str] = field(default_factory=lambda: {"writer"})
    read_only: set[str] = field(default_factory=lambda: {"reader"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    busy: bool = False
    url: str = ""


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str):
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}
        super().__init__(message)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        self.query = parse_qs(split.query)
        self.hub.seen.append(f"{self.command} {split.path}")
        try:
            if self.hub.busy:
                raise _Refused(500, "", "too busy")
            self._route([unquote(part) for part in split.path.strip("/").split("/")])
        except _Refused as error:
            self._send(error.status, {"error": str(error)}, error.headers)

    def _route(self, parts: list[str]) -> None:
        match parts:
            case ["api", "repos", "create"]:
                self._create()
            case ["api", "validate-yaml"]:
                self._send(200, {"warnings": [], "errors": []})
            case ["api", "models", user, name]:
                self._info(f"{user}/{name}", "main")
            case ["api", "models", user, name, "revision", revision]:
                self._info(f"{user}/{name}", revision)
            case ["api", "models", user, name, "tree", revision]:
                self._tree(f"{user}/{name}", revision)
            case ["api", "models", user, name, "preupload", revision]:
                self._preupload(f"{user}/{name}", revision)
            case ["api", "models", user, name, "commit", revision]:
                self._commit(f"{user}/{name}", revision)
            case [user, name, "info", "lfs", "objects", "batch"]:
                self._batch(f"{user}/{name.removesuffix('.git')}")
            case ["lfs", oid]:
                self._store(oid)
            case [user, name, "resolve", revision, *path]:
                self._file(f"{user}/{name}", revision, "/".join(path))
            case _:
                raise _Refused(404, "", f"no such path: {self.path}")

    def _token(self) -> str:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens | self.hub.read_only:
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        return token

    def _writer(self) -> None:
        if self._token() not in self.hub.tokens:
            raise _Refused(403, "", "you need a token with write access")

    def _repository(self, name: str) -> Repository:
        token, found = self._token(), self.hub.repositories.get(name)
        if found is None or (found.private and not token):
            raise _Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if found.gated and not token:
            raise _Refused(401, "GatedRepo", "Access is restricted")
        return found

    def _at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repository(name)
        oid = found.refs.get(revision, revision)
        if oid not in found.commits:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, found.commits[oid]

    def _create(self) -> None:
        self._writer()
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        made = self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        made.commit({".gitattributes": b"*.pack filter=lfs\n"})
        self._send(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _info(self, name: str, revision: str) -> None:
        oid, files = self._at(name, revision)
        siblings = [{"rfilename": each} for each in files]
        self._send(200, {"id": name, "modelId": name, "sha": oid, "siblings": siblings, "tags": [], "private": False})

    def _tree(self, name: str, revision: str) -> None:
        _, files = self._at(name, revision)
        found = []
        for path, data in files.items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            found.append(entry)
        self._send(200, found)

    def _preupload(self, name: str, revision: str) -> None:
        self._writer()
        self._at(name, revision)
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
            for file in json.loads(self.body)["files"]
        ]
        self._send(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})

    def _batch(self, name: str) -> None:
        self._writer()
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            known = wanted["oid"] in self.hub.blobs
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append({**wanted, **({} if known else {"actions": upload})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "", "not that content")
        self.hub.blobs[oid] = self.body
        self._send(200, {})

    def _commit(self, name: str, revision: str) -> None:
        self._writer()
        oid, files = self._at(name, revision)
        files = dict(files)
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header" and value.get("parentCommit", oid) != oid:
                raise _Refused(412, "", "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        made = self._repository(name).commit(files, revision)
        answer = {"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}"}
        self._send(200, answer)

    def _file(self, name: str, revision: str, path: str) -> None:
        oid, files = self._at(name, revision)
        if path not in files:
            raise _Refused(404, "EntryNotFound", f"Entry not found: {path}")
        data = files[path]
        large = path.endswith(LARGE)
        etag = (hashlib.sha256 if large else hashlib.sha1)(data).hexdigest()
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        self._send(200, data, headers)

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        sizes = {"Content-Type": kind, "Content-Length": str(len(data))}
        for name, value in {**sizes, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers under `Hub.url`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
