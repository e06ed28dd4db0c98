"""What holds when things go wrong or change under a server: packs, decoders, clients, queues, signals."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from s3router.asr.ctc_decode import BatchOptions
from s3router.errors import CheckpointError, ConfigError, PackError
from s3router.packs import MaskPack, container, read_pack, write_pack
from s3router.server import answers
from s3router.server.catalogue import Catalogue
from s3router.server.engine import Engine, Piece
from s3router.server.limits import Limits
from s3router.server.metrics import Metrics
from s3router.server.residents import Residents
from s3router.serving.loading import load_backbone
from tests.server.conftest import AUDIO, ROOT, serving
from tests.server.test_api import form, get, in_turn, post, upload

pytestmark = pytest.mark.usefixtures("upstream_in_place")

WAVE = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)


@pytest.fixture
def folder(packs, tmp_path) -> Path:
    """A copy of the packs, which a test may change."""
    return Path(shutil.copytree(packs, tmp_path / "packs"))


@pytest.fixture
def look_at_once(monkeypatch):
    monkeypatch.setattr("s3router.server.catalogue.RESCAN", 0.0)


def text(url: str, model: str) -> str | None:
    status, found = upload(url, ("model", model), content=AUDIO[0].read_bytes())
    return found["text"] if status == 200 else found["error"]["code"]


def count(url: str, name: str) -> float:
    lines = get(f"{url}/metrics")[1].decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def renamed(path: Path, route: str) -> MaskPack:
    pack = read_pack(path)
    return MaskPack(**{**vars(pack), "route": route})


def test_packs_come_go_and_change_on_disk(folder, look_at_once):
    with serving(folder) as (url, _):
        it, ru = text(url, "it"), text(url, "ru")
        assert it != ru
        assert count(url, "s3router_pack_loads_total") == 2
        write_pack(folder / "new.pack", renamed(folder / "ru.pack", "xx"))
        assert text(url, "xx") == ru
        write_pack(folder / "it.pack", renamed(folder / "ru.pack", "it"))
        assert text(url, "it") == ru
        (folder / "new.pack").unlink()
        assert text(url, "xx") == "model_not_found"


def test_a_pack_that_could_not_be_read_for_a_while_is_taken_later(folder, look_at_once, monkeypatch):
    failing = [True]

    def opened(path):
        if failing and Path(path).name == "new.pack":
            raise OSError(24, "Too many open files")
        return real(path)

    real = container._opened
    monkeypatch.setattr(container, "_opened", opened)
    with serving(folder) as (url, _):
        shutil.copy(folder / "ru.pack", tmp := folder / "new.tmp")
        write_pack(tmp, renamed(tmp, "xx"))
        tmp.rename(folder / "new.pack")
        assert text(url, "xx") == "model_not_found"
        failing.clear()  # the file itself stays as it is
        assert text(url, "xx") == text(url, "ru")


def test_two_packs_of_one_route_in_a_folder_that_was_empty(folder, look_at_once, tmp_path):
    kept = shutil.copytree(folder, tmp_path / "kept")
    with serving(folder, loading=True) as (url, _):
        it = text(url, "it")
        for path in folder.glob("*.pack"):
            path.unlink()
        assert json.loads(get(f"{url}/health")[1])["routes"] == 0
        assert post(f"{url}/v1/models/it/unload", b"", "text/plain") == (
            200,
            {"id": "it", "object": "model", "resident_bytes": 0},
        )
        assert post(f"{url}/v1/models/it/unload", b"", "text/plain")[0] == 404
        for name in ("a", "b"):
            shutil.copy(kept / "it.pack", folder / f"{name}.pack")
        assert json.loads(get(f"{url}/health")[1])["routes"] == 1
        assert text(url, "it") == it


def test_what_was_found_before_does_not_take_the_place_of_what_is_newer(folder):
    model, found = load_backbone([folder / "it.pack"]).eval(), []
    for route in ("it", "ru"):
        write_pack(folder / "it.pack", renamed(folder / f"{route}.pack", "it"))
        catalogue = Catalogue([folder], {False: model.upstream.backbone_fingerprint}.get)
        found.append(replace(catalogue.route("it"), seen=len(found)))
    metrics = Metrics()
    residents = Residents(model, 10**9, metrics)
    for each in (found[0], found[1], found[0], found[1]):
        residents.bring(each)
    assert metrics.pack_loads._value.get() == 2


def test_a_damaged_replacement_leaves_what_is_in_memory(folder, look_at_once):
    with serving(folder, loading=True) as (url, _):
        it = text(url, "it")
        for name in ("it.pack", "es.pack"):
            (folder / name).write_bytes(b"garbage" * 100)
        assert text(url, "it") == it
        assert text(url, "es") == "pack_not_readable"  # known, but never read
        assert text(url, "auto") == "pack_not_readable"  # not answered by the others in silence
        _, found = upload(url, ("model", "es"), content=AUDIO[0].read_bytes())
        assert str(folder) not in found["error"]["message"]
        assert text(url, "ru")


def test_a_replacement_that_the_model_refuses_leaves_what_is_in_memory(folder, look_at_once, caplog):
    def refused(route: str) -> MaskPack:
        pack = read_pack(folder / f"{route}.pack")
        settings = {**pack.meta.preprocessing, "sample_rate": 8000}
        return replace(pack, meta=replace(pack.meta, preprocessing=settings))

    with serving(folder) as (url, given), caplog.at_level(logging.WARNING):
        it = text(url, "it")
        for name in ("it", "es"):
            write_pack(folder / f"{name}.pack", refused(name))
        assert text(url, "it") == text(url, "it") == it
        (record,) = [record for record in caplog.records if record.getMessage() == "pack not replaced"]
        assert record.fields["route"] == "it"
        assert "preprocessing" in record.fields["reason"]
        assert text(url, "es") == "pack_not_readable"  # of which nothing is in memory
        write_pack(folder / "it.pack", renamed(folder / "ru.pack", "it"))
        assert text(url, "it") == text(url, "ru") != it
        assert set(given.engine.model.routes) == {"it", "ru"}


def test_packs_are_evicted_by_a_budget_and_come_back(folder):
    with serving(folder) as (url, given):
        alone = {route: text(url, route) for route in ("es", "fr.CA", "it", "ru")}
        sizes = dict(given.engine.resident)
    assert set(sizes) == set(alone)
    with serving(folder, pack_mb=1.01 * max(sizes.values()) / 1e6) as (url, given):
        for _ in range(2):
            for route, expected in alone.items():
                assert text(url, route) == expected
                assert sum(given.engine.resident.values()) <= 1.01 * max(sizes.values())
                assert route in given.engine.resident
        assert count(url, "s3router_pack_evictions_total") >= 4
        assert text(url, "auto") in alone.values()  # more candidates than fit at a time


def test_packs_that_cannot_be_served_are_left_out_or_refused(folder, packs, caplog, tmp_path):
    fingerprint = read_pack(folder / "it.pack").meta.fingerprint
    known = {False: fingerprint}.get
    (folder / "bad.pack").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert set(Catalogue([folder], known).routes) == {"es", "fr.CA", "it", "ru"}
    assert any("bad.pack" in record.fields["reason"] for record in caplog.records)
    with pytest.raises(PackError, match=r"bad\.pack"):
        Catalogue([folder / "bad.pack", folder / "it.pack"], known)
    with pytest.raises(PackError, match=r"none\.pack: no such pack"):
        Catalogue([folder / "none.pack", folder / "it.pack"], known)
    with pytest.raises(PackError, match="for another backbone"):
        Catalogue([folder / "it.pack"], {False: "0" * 32}.get)
    with pytest.raises(ConfigError, match="both of route 'it'"):
        Catalogue([folder / "it.pack", packs / "it.pack"], known)
    with pytest.raises(ConfigError, match="no pack in"):
        Catalogue([tmp_path], known)


def test_a_damaged_pack_in_a_folder_does_not_keep_the_server_from_starting(folder):
    (folder / "aa.pack").write_bytes(b"garbage")
    with serving(folder) as (url, _):
        assert text(url, "it")
    with pytest.raises(PackError, match=r"aa\.pack"), serving(folder / "aa.pack", folder):
        pass


def test_auto_by_a_classifier(folder, classifier, spoken):
    """One route is computed for each recording, the one that was chosen before."""
    with serving(folder, langid=classifier) as (url, _):
        fields = ("model", "auto"), ("response_format", "verbose_json")
        for lang, recordings in spoken.items():
            for path in sorted(recordings.iterdir())[:2]:
                content = path.read_bytes()
                status, found = upload(url, *fields, ("candidates", "es,it,ru"), content=content)
                assert (status, found["route"]) == (200, lang)
                assert sum(np.exp(list(found["scores"].values()))) == pytest.approx(1)
                assert found["text"] == upload(url, ("model", lang), content=content)[1]["text"]
        assert count(url, 's3router_pieces_total{route="it"}') == 4  # two by auto, two by name
        status, found = upload(url, *fields, content=content)
        assert status == 400
        assert "does not know fr.CA; name candidates that it knows: " in found["error"]["message"]


def decoders(url: str) -> list[int]:
    """The processes that decode for a server in this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for task in Path("/proc/self/task").iterdir():
        children += (task / "children").read_text().split()
    named = {int(pid) for pid in children if b"s3router.server.decoder" in Path(f"/proc/{pid}/cmdline").read_bytes()}
    return sorted(named)


def test_a_decoder_that_dies_is_replaced(folder):
    """Idle ones unseen; one that dies over a recording is followed by a second try."""
    with serving(folder, limits=Limits(decoders=1)) as (url, _), ThreadPoolExecutor(1) as pool:
        expected = text(url, "it")
        (pid,) = decoders(url)
        os.kill(pid, signal.SIGKILL)
        assert text(url, "it") == expected
        (pid,) = decoders(url)
        os.kill(pid, signal.SIGSTOP)
        asked = pool.submit(text, url, "it")
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        assert asked.result() == expected
        assert count(url, "s3router_decoder_deaths_total") == 2


def test_decoders_know_no_keys(folder, monkeypatch):
    monkeypatch.setenv("S3ROUTER_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LC_MESSAGES", "C.UTF-8")
    with serving(folder, limits=Limits(decoders=1)) as (url, _):
        assert text(url, "it")
        (pid,) = decoders(url)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0] for entry in environment}
    assert {b"PATH", b"PYTHONPATH", b"OMP_NUM_THREADS", b"LC_MESSAGES"} <= names
    assert not any(b"secret" in entry for entry in environment)


def test_what_kills_every_decoder_is_no_audio(folder):
    with serving(folder, limits=Limits(decoders=1)) as (url, _), ThreadPoolExecutor(1) as pool:
        expected = text(url, "it")
        asked = None
        while asked is None or not asked.done():
            for pid in decoders(url):
                os.kill(pid, signal.SIGKILL)
            asked = asked or pool.submit(text, url, "it")
            time.sleep(0.01)
        assert asked.result() == "audio_not_decodable"
        assert text(url, "it") == expected


def test_time_is_limited_also_in_a_decoder_that_hangs(folder):
    with serving(folder, limits=Limits(decoders=1, timeout=1.0)) as (url, _):
        expected = text(url, "it")
        os.kill(decoders(url)[0], signal.SIGSTOP)
        assert text(url, "it") == "timeout"
        for _ in range(20):  # the next one starts when it is needed
            if (found := text(url, "it")) == expected:
                break
        assert found == expected


@contextlib.contextmanager
def held(engine: Engine) -> Iterator[None]:
    """Keep the engine's thread busy for the length of the block."""
    released = threading.Event()
    engine._task(released.wait)
    try:
        yield
    finally:
        released.set()


def refused_while_held(url: str, engine: Engine, content: bytes, requests: int, refused: int) -> None:
    """Of some requests at once, so many are refused at once, and the others answered as soon as the engine can."""
    with ThreadPoolExecutor(requests) as pool, held(engine):
        asked = [pool.submit(upload, url, ("model", "it"), content=content) for _ in range(requests)]
        answers = [future.result() for future in itertools.islice(as_completed(asked), refused)]
        assert {(status, found["error"]["code"]) for status, found in answers} == {(429, "queue_full")}
    assert sorted(future.result()[0] for future in asked) == [200] * (requests - refused) + [429] * refused


def test_a_full_queue_refuses_and_recovers(folder):
    with serving(folder, limits=Limits(requests=3)) as (url, given):
        refused_while_held(url, given.engine, AUDIO[0].read_bytes(), 6, 3)
        assert text(url, "it")
    with serving(folder, limits=Limits(waiting_seconds=1)) as (url, given):
        refused_while_held(url, given.engine, in_turn(*AUDIO[:2]), 2, 1)


def test_candidates_count_for_what_is_taken_on(folder):
    content = AUDIO[0].read_bytes()
    most = 3 * soundfile.info(AUDIO[0]).duration
    with serving(folder, limits=Limits(waiting_seconds=most)) as (url, given), ThreadPoolExecutor(1) as pool:
        with held(given.engine):
            asked = pool.submit(upload, url, ("model", "it"), content=content)
            while count(url, "s3router_waiting_pieces") < 1:
                time.sleep(0.02)
            status, found = upload(url, ("model", "auto"), content=content)  # of four
            assert (status, found["error"]["code"]) == (429, "queue_full")
        assert asked.result()[0] == 200
        assert upload(url, ("model", "auto"), content=content)[0] == 200  # alone
        assert given.engine.accepted_seconds == 0


def test_who_goes_away_frees_its_place(folder):
    gone = 's3router_requests_total{model="it",status="499"}'
    with serving(folder, limits=Limits(requests=1)) as (url, given):
        with held(given.engine):
            host, port = url.removeprefix("http://").split(":")
            connection = http.client.HTTPConnection(host, int(port))
            body = b'--X\r\nContent-Disposition: form-data; name="model"\r\n\r\nit\r\n--X\r\n'
            body += b'Content-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n' + AUDIO[0].read_bytes()
            kind = {"Content-Type": "multipart/form-data; boundary=X"}
            connection.request("POST", "/v1/audio/transcriptions", body + b"\r\n--X--\r\n", kind)
            while count(url, "s3router_waiting_pieces") < 1:
                time.sleep(0.02)
            connection.close()
            while gone not in get(f"{url}/metrics")[1].decode():
                time.sleep(0.02)
        assert text(url, "it") != "queue_full"
        assert count(url, "s3router_pieces_total") == 1  # the other was never computed


def test_a_stream_that_fails_says_so(folder, monkeypatch, caplog):
    def failing(segments):
        raise RuntimeError("private")

    monkeypatch.setattr("s3router.server.answers.text_of", failing)
    failed = 's3router_requests_total{model="it",status="500"}'
    with serving(folder) as (url, _), caplog.at_level(logging.ERROR):
        content_type, body = form(("model", "it"), ("stream", "true"), content=AUDIO[0].read_bytes())
        request = urllib.request.Request(f"{url}/v1/audio/transcriptions", body, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=60) as reply:
            *_, last = reply.read().decode().strip().split("\n\n")
        error = json.loads(last.removeprefix("data: "))["error"]
        assert (error["type"], error["message"]) == ("server_error", "a fault of the server; its log says more")
        while failed not in get(f"{url}/metrics")[1].decode():
            time.sleep(0.02)
    (record,) = [record for record in caplog.records if record.getMessage() == "a stream failed"]
    assert record.exc_info


def test_a_stream_that_nobody_reads_ends(monkeypatch):
    monkeypatch.setattr(answers, "UNREAD", 0.1)

    async def events(work, record):
        yield {"type": "transcript.text.delta", "delta": "a"}
        await asyncio.sleep(60)

    async def send(message):
        if message.get("body"):
            await asyncio.sleep(60)  # the client's buffers are full

    async def main() -> None:
        stream = answers.Stream(work, record)
        stream.held, stream.seconds = contextlib.ExitStack(), 0.1
        stream.until = asyncio.get_running_loop().time() + 0.1
        await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, None, send)

    monkeypatch.setattr(answers, "_events", events)
    ended: list[str] = []
    work = SimpleNamespace(cancel=lambda: ended.append("work"))
    record = answers.Record("a")
    asyncio.run(asyncio.wait_for(main(), 30))
    assert (record.status, ended) == (503, ["work"])


def test_an_upload_that_is_cut_off_is_no_fault_of_the_server(folder, caplog):
    with serving(folder) as (url, _), caplog.at_level(logging.ERROR):
        host, port = url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.putrequest("POST", "/v1/audio/transcriptions")
        connection.putheader("Content-Type", "multipart/form-data; boundary=X")
        connection.putheader("Content-Length", "100000")
        connection.endheaders()
        connection.send(b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n' + bytes(5000))
        while count(url, "s3router_requests_in_flight") < 1:
            time.sleep(0.02)
        connection.close()
        while count(url, "s3router_requests_in_flight"):
            time.sleep(0.02)
        assert count(url, 's3router_requests_total{model="none",status="499"}') == 1
    assert caplog.records == []


def test_a_piece_that_fails_harms_no_other(folder, upstream_in_place):
    """Among pieces of one route, one that the model cannot take."""
    model = load_backbone([folder / "it.pack"]).eval()
    catalogue = Catalogue([folder], {False: model.upstream.backbone_fingerprint}.get)
    engine = Engine(model, 10**9, Metrics(), 0.01, BatchOptions(batch_seconds=100))
    it = catalogue.route("it")
    pieces = [Piece(wave, [it]) for wave in (WAVE, np.zeros((2, 2, 2), np.float32), WAVE[:4000])]
    engine.submit(pieces)
    engine.start()
    assert pieces[0].future.result(20).route == pieces[2].future.result(20).route == "it"
    with pytest.raises(Exception, match=r"."):
        pieces[1].future.result(20)
    engine.stop()
    assert not engine.alive


def test_the_command_answers_what_it_has_accepted_and_logs_no_content(packs, small_upstream, tmp_path):
    environment = {**os.environ, "S3ROUTER_TINY": str(small_upstream), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "s3router", "serve", "--routes", str(packs), "--port", "0", "--wait-ms", "1000"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            url = process.stdout.readline().split()[0]
            answers: list = []
            given = {"content": AUDIO[0].read_bytes(), "name": "private.flac"}
            asking = threading.Thread(target=lambda: answers.append(upload(url, ("model", "it"), **given)))
            asking.start()
            while count(url, "s3router_requests_in_flight") < 1:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            asking.join(60)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.stdout.close()
        log.seek(0)
        lines = [json.loads(line) for line in log]
    (status, found), *_ = answers
    assert status == 200
    (line,) = [line for line in lines if line["event"] == "transcription"]
    assert (line["status"], line["model"], line["pieces"]) == (200, "it", 1)
    assert line["seconds"] == pytest.approx(1.6, abs=1)
    written = json.dumps(lines, ensure_ascii=False)
    assert found["text"]
    assert found["text"] not in written
    assert "private" not in written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "--port 70000: expected 0 to 65535"),
        (["--port", "-1"], "--port -1: expected 0 to 65535"),
        (["--host", "0.0.0.0"], "lets other machines in: set S3ROUTER_API_KEY"),
        (["--timeout", "0"], "--timeout 0.0: expected a number above 0"),
        (["--pack-mb", "-1"], "-1 MB of packs"),
        (["--wait-ms", "5000"], "5000 ms of waiting"),
        (["--port", "1", "--host", "203.0.113.1", "--without-key"], "203.0.113.1:1: cannot be listened on"),
        (["--device", "gpu"], "no such device"),
        (["--analysis", "none"], "none: no analysis in it (index.html); s3router analyze"),
    ],
)
def test_wrong_options(packs, options, message, capsys):
    from s3router.cli import main

    assert main(["serve", "--routes", str(packs), *options]) == 1
    assert message in capsys.readouterr().err


def test_experiments_are_served_as_their_packs_are(packs, route_experiments, tmp_path):
    with serving(packs) as (url, _):
        expected = text(url, "ru")
    with serving(route_experiments["ru"], packs / "it.pack") as (url, given):
        assert set(given.catalogue.routes) == {"ru", "it"}
        assert text(url, "ru") == expected
    with pytest.raises(CheckpointError, match="no experiment in it"), serving(tmp_path):
        pass
