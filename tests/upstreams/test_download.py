"""Public upstreams by name, fetched from a server on this machine: resume, checks, copies by hand, messages."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import threading

import pytest
import torch

from s3router.errors import CheckpointError, ConfigError
from s3router.upstreams import hub, public
from s3router.upstreams.download import Ledger, RemoteFile, fetch_file
from s3router.upstreams.public import PublicUpstream, fetch, find_public, load_public

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` with ranges; ``break_after`` bytes it hangs up, once for each entry."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/model.pt": CONTENT}
        self.break_after: list[int] = []
        self.seen: list[tuple[str, str | None]] = []
        self.etag, self.linked = '"one"', None

    def url(self, path: str = "/model.pt") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append((self.path, asked))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.send_header("X-Linked-ETag", f'"{server.linked}"')
            self.end_headers()
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = int(asked.split("=")[1].rstrip("-")) if asked and self.headers.get("If-Range") == server.etag else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("ETag", server.etag)
        self.end_headers()
        body = content[begin:]
        if server.break_after:
            body = body[: server.break_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(public.FOLDER_VARIABLE, str(tmp_path / "upstreams"))
    return tmp_path / "upstreams"


def get(server, folder, refresh=False, path="/model.pt", **known):
    target = folder / "some" / "model.pt"
    return fetch_file(RemoteFile(server.url(path), **known), target, Ledger(folder), "upstream some", refresh)


def test_a_download_is_made_once_and_recorded(server, folder):
    for _ in range(2):
        assert get(server, folder).read_bytes() == CONTENT
    assert len(server.seen) == 1
    entry = json.loads((folder / "checksums.json").read_text())["some/model.pt"]
    assert (entry["sha256"], entry["size"], entry["checked"]) == (SHA256, len(CONTENT), "first seen")
    assert sorted(p.name for p in (folder / "some").iterdir()) == ["model.pt", "model.pt.lock"]


def test_a_folder_that_may_only_be_read_is_read_and_checked(server, folder, monkeypatch):
    get(server, folder)
    for name in ("checksums.json", "checksums.json.lock", "some/model.pt.lock"):
        (folder / name).unlink()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    assert get(server, folder, sha256=SHA256).read_bytes() == CONTENT
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["model.pt"]
    with pytest.raises(CheckpointError, match="SHA-256"):
        get(server, folder, sha256="0" * 64)


def test_a_broken_connection_is_gone_on_with(server, folder):
    server.break_after = [300_000, 200_000]
    assert get(server, folder, sha256=SHA256, size=len(CONTENT)).read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_killed_download_is_gone_on_with_and_a_changed_file_begun_anew(server, folder):
    part = folder / "some" / "model.pt.part"
    for etag, first in (('"one"', "bytes=1000-"), ('"two"', "bytes=1000-")):
        server.seen.clear()
        shutil.rmtree(folder, ignore_errors=True)
        part.parent.mkdir(parents=True)
        part.write_bytes(CONTENT[:1000])
        part.with_name("model.pt.part.etag").write_text('"one"')
        server.etag = etag
        assert get(server, folder).read_bytes() == CONTENT
        assert server.seen == [("/model.pt", first)]


def test_the_wrong_content_never_takes_the_place(server, folder):
    with pytest.raises(CheckpointError, match=r"SHA-256 .* expected aa.*published"):
        get(server, folder, sha256="aa" * 32)
    with pytest.raises(CheckpointError, match=r"offers 1024000 bytes, but 7 are published"):
        get(server, folder, size=7)
    assert not (folder / "some" / "model.pt").exists()
    assert not (folder / "some" / "model.pt.part").exists()


def test_what_the_server_states_of_a_file_is_checked(server, folder):
    server.linked = SHA256
    get(server, folder, path="/moved/model.pt")
    assert Ledger(folder).describe(folder / "some" / "model.pt")["checked"] == "stated by the server"
    shutil.rmtree(folder)
    server.linked = "b" * 64
    with pytest.raises(CheckpointError, match="stated by the server"):
        get(server, folder, path="/moved/model.pt")


def test_a_file_that_changed_on_disk_is_refused(server, folder):
    target = get(server, folder)
    target.write_bytes(CONTENT[:-1] + b"x")
    os.utime(target, ns=(1, 1))
    with pytest.raises(CheckpointError, match=r"model\.pt: not the expected file.*recorded in .*checksums\.json"):
        get(server, folder)
    target.write_bytes(CONTENT)
    os.utime(target, ns=(2, 2))  # another time, the same content
    get(server, folder)
    assert len(server.seen) == 1


def test_a_file_that_changed_on_the_server_is_refused(server, folder):
    get(server, folder)
    server.files["/model.pt"] = CONTENT[::-1]
    with pytest.raises(CheckpointError, match=r"recorded in .*; if the new one is meant, remove its entry there"):
        get(server, folder, refresh=True)
    assert (folder / "some" / "model.pt").read_bytes() == CONTENT


def test_no_network_and_no_such_file(server, folder):
    with pytest.raises(CheckpointError) as error:
        get(server, folder, path="/gone.pt")
    assert f"{server.url('/gone.pt')} cannot be downloaded (Not Found)" in str(error.value)
    assert f"put it at {folder}/some/model.pt" in str(error.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match=r"cannot be downloaded \(.*refused.*put it at"):
        get(server, folder)


def test_a_damaged_ledger_is_named(server, folder):
    get(server, folder)
    (folder / "checksums.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"checksums\.json: not valid JSON"):
        get(server, folder)


@pytest.fixture
def upstream(server, folder, s3prl_file, hf_folder):
    """A public upstream whose files the server has, in two formats."""
    file = s3prl_file("hubert_custom", "default").read_bytes()
    server.files = {"/hubert.pt": file}
    hf = hf_folder("hf_hubert_custom", "group")
    names = ["config.json", "preprocessor_config.json", "model.safetensors"]
    server.files |= {f"/{name}": (hf / name).read_bytes() for name in names}
    files = {
        "s3prl": (RemoteFile(server.url("/hubert.pt"), sha256=hashlib.sha256(file).hexdigest()),),
        "huggingface": tuple(RemoteFile(server.url(f"/{name}")) for name in (*names[:2], "pytorch_model.bin")),
    }
    return PublicUpstream("hubert_some", (), "hubert", files, None, 0.1)


def test_an_upstream_by_name(upstream, server, monkeypatch):
    monkeypatch.setattr(public, "catalogue", lambda: {"hubert_some": upstream})
    routed = hub.build(upstream="hubert_some")
    assert type(routed.backbone).__name__ == "HubertModel"
    assert hub.build(upstream="hubert_some").backbone_fingerprint == routed.backbone_fingerprint
    assert [path for path, _ in server.seen] == ["/hubert.pt"]


def test_an_address_is_downloaded_once(upstream, server, folder, monkeypatch):
    monkeypatch.setattr(public, "catalogue", lambda: {"hubert_some": upstream})
    prints = {
        hub.build(ckpt=server.url("/hubert.pt"), upstream=name).backbone_fingerprint for name in ("auto", "hubert_some")
    }
    assert len(prints) == 1
    assert [path for path, _ in server.seen] == ["/hubert.pt"]
    assert len(list(folder.glob("by_address/*/hubert.pt"))) == 1


def test_a_file_put_there_by_hand_is_taken(upstream, server, s3prl_file):
    place = upstream.place("s3prl")
    place.mkdir(parents=True)
    shutil.copy(s3prl_file("hubert_custom", "default"), place / "hubert.pt")
    assert upstream.present() == ["s3prl"]
    assert load_public(upstream).model is not None
    (place / "hubert.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not the expected file"):
        load_public(upstream)
    assert server.seen == []


def test_a_copy_is_checked_before_it_is_taken(upstream, server, s3prl_file, hf_folder, tmp_path):
    good, bad = s3prl_file("hubert_custom", "default"), tmp_path / "bad.pt"
    bad.write_bytes(b"bad")
    with pytest.raises(CheckpointError, match="not the expected file"):
        fetch(upstream, "s3prl", bad)
    assert upstream.present() == []
    assert fetch(upstream, None, good).read_bytes() == good.read_bytes()
    with pytest.raises(CheckpointError, match="no such file"):
        fetch(upstream, "huggingface", tmp_path)
    with pytest.raises(ConfigError, match=r"no format 'onnx'\. Known: s3prl, huggingface"):
        fetch(upstream, "onnx")
    assert server.seen == []


def test_safetensors_in_a_folder_are_preferred(upstream, hf_folder):
    place = upstream.place("huggingface")
    place.parent.mkdir(parents=True)
    shutil.copytree(hf_folder("hf_hubert_custom", "group"), place)
    (place / "pytorch_model.bin").write_bytes(b"never looked at")
    assert upstream.present() == ["huggingface"]
    loaded = load_public(upstream)
    assert loaded.normalize_eps == 1e-5  # as in pretraining, though transformers' folder says nothing of it


def test_waveforms_are_normalised_as_in_pretraining_whatever_a_folder_says(hf_folder, wavs, any_size):
    folder = str(hf_folder("hf_hubert_custom", "group"))
    assert json.loads((hf_folder("hf_hubert_custom", "group") / "preprocessor_config.json").read_text())["do_normalize"]
    quiet = [0.03 * wav for wav in wavs]
    by_name, by_path = (hub.build(ckpt=folder, upstream=name).eval() for name in ("hubert_base", "auto"))
    by_path.expert.normalize = False
    assert by_name.expert.normalize is False
    for ours, expected in zip(by_name(quiet)["hidden_states"], by_path(quiet)["hidden_states"], strict=True):
        torch.testing.assert_close(ours, expected)
    assert hub.build(ckpt=folder, upstream="hubert_large_ll60k").expert.normalize is True


def test_a_folder_with_safetensors_is_taken_as_a_copy(upstream, server, hf_folder):
    place = fetch(upstream, "huggingface", hf_folder("hf_hubert_custom", "group"))
    assert place == upstream.place("huggingface")
    assert (place / "model.safetensors").is_file()
    assert load_public(upstream).model is not None
    assert server.seen == []


def test_real_entries_fail_with_the_address_and_the_place(folder, monkeypatch):
    import urllib.request

    def offline(self, request, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", offline)
    with pytest.raises(CheckpointError) as error:
        hub.build(upstream="xlsr_53")
    assert "https://huggingface.co/s3prl/converted_ckpts/resolve/main/xlsr_53_56k.pt cannot be downloaded" in str(
        error.value
    )
    assert f"put it at {folder}/xlsr_53/s3prl/xlsr_53_56k.pt" in str(error.value)
    assert find_public("hubert_base").files["fairseq"][0].size == 1136468879
