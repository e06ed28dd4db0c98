"""The server over HTTP, through OpenAI's client where it can say it."""

from __future__ import annotations

import html
import io
import json
import math
import re
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
import soundfile

from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from tests.server.conftest import AUDIO, FIVE, serving

pytestmark = pytest.mark.usefixtures("upstream_in_place")


@pytest.fixture(scope="module")
def expected(route_experiments, upstream_in_place) -> dict[tuple[str, str], tuple[str, float]]:
    """(route, recording) -> (text, confidence), by the trained models themselves, each recording alone."""
    from s3router.asr.ctc_decode import BatchOptions, GreedySearch, decode_many
    from s3router.asr.experiment import ASRExperiment

    utts = DataDir.read(FIVE).with_durations().utts
    found = {}
    for route, folder in route_experiments.items():
        exp = ASRExperiment(folder)
        read = [read_audio(utt.source) for utt in utts]
        seconds = [utt.duration for utt in utts]
        decoded = decode_many(exp.model(), read.__getitem__, seconds, GreedySearch(), BatchOptions(batch_seconds=0))
        for index, one in decoded:
            found[route, Path(utts[index].source).name] = exp.tokens.decode(one.tokens), one.confidence
    assert len({text for text, _ in found.values()}) > 4
    return found


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(url: str, body: bytes, content_type: str, **headers: str) -> tuple[int, dict]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type, **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def form(*fields: tuple[str, str], content: bytes | None = None, name: str = "a.flac") -> tuple[str, bytes]:
    """Content type and body of a multipart request by hand."""
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields
    ]
    if content is not None:
        head = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return "multipart/form-data; boundary=X", b"".join(parts) + b"--X--\r\n"


def upload(url: str, *fields: tuple[str, str], content: bytes | None = None, name: str = "a.flac", **headers: str):
    """A multipart request by hand; returns status and JSON."""
    content_type, body = form(*fields, content=content, name=name)
    return post(f"{url}/v1/audio/transcriptions", body, content_type, **headers)


def same(found, expected: tuple[str, float]) -> bool:
    """Text and confidence, bit by bit; JSON has no infinities."""
    text, confidence = expected
    return found.text == text and found.segments[0].avg_logprob == (confidence if math.isfinite(confidence) else None)


def test_fifty_mixed_requests_at_once_give_the_single_models_numbers(client, expected):
    """Every route and recording, twice and a half, all under way together; some of them by auto."""

    def ask(job: tuple[str, Path]):
        model, path = job
        words = ["word", "segment"]
        return client.audio.transcriptions.create(
            file=path, model=model, response_format="verbose_json", timestamp_granularities=words
        )

    jobs = [(route, path) for route in ("es", "fr.CA", "it", "ru", "auto") for path in AUDIO] * 2
    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(ask, jobs))
    assert len(jobs) == 50
    for (model, path), found in zip(jobs, answers, strict=True):
        assert found.route == model or model == "auto"
        assert same(found, expected[found.route, path.name]), (model, path)
        assert " ".join(word.word for word in found.words) == found.text
        assert all(0 <= word.start < word.end <= found.duration + 0.02 for word in found.words)
        if model == "auto":
            assert set(found.scores) == {"es", "fr.CA", "it", "ru"}
            assert next(iter(found.scores)) == found.route
    assert len({found.route for (model, _), found in zip(jobs, answers, strict=True) if model == "auto"}) >= 1


def test_auto_agrees_with_the_command_line(client, packs, capsys):
    from s3router.cli import main

    routes = [str(path) for path in sorted(packs.iterdir())]
    assert (
        main(["transcribe", "--routes", *routes, "--lang", "auto", "--json", "--batch-seconds", "0", *map(str, AUDIO)])
        == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, path in zip(lines, AUDIO, strict=True):
        found = client.audio.transcriptions.create(file=path, model="auto", response_format="verbose_json")
        assert (found.route, found.text) == (line["lang"], line["text"])
        rounded = {route: None if value is None else round(value, 4) for route, value in found.scores.items()}
        assert rounded == line["scores"]


def test_formats(client, expected):
    path = AUDIO[0]
    text, _ = expected["it", path.name]
    create = client.audio.transcriptions.create
    assert create(file=path, model="it").text == text
    assert create(file=path, model="it", response_format="text") == text + "\n"
    srt = create(file=path, model="it", response_format="srt")
    cues = re.findall(r"(\d+)\n00:00:(\d\d,\d\d\d) --> 00:00:(\d\d,\d\d\d)\n(.+)\n", srt)
    assert " ".join(cue[3] for cue in cues) == text
    assert [int(cue[0]) for cue in cues] == list(range(1, len(cues) + 1))
    vtt = create(file=path, model="it", response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:")
    assert " ".join(map(html.unescape, re.findall(r"^(?!WEBVTT|\d\d:).+$", vtt, re.MULTILINE))) == text
    plain = create(file=path, model="it", response_format="verbose_json")
    assert plain.language == "it"
    assert not hasattr(plain, "words") or plain.words is None
    assert plain.duration == pytest.approx(soundfile.info(path).duration, abs=1e-3)


def test_a_stream_ends_with_what_is_answered_at_once(client, expected):
    recording = in_turn(AUDIO[0], AUDIO[1], AUDIO[2])
    wanted = {"file": ("a.wav", recording), "model": "it", "chunking_strategy": "auto"}
    whole = client.audio.transcriptions.create(**wanted)
    events = list(client.audio.transcriptions.create(**wanted, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == whole.text
    events = list(client.audio.transcriptions.create(**wanted, stream=True, response_format="verbose_json"))
    assert [event.segment["text"] for event in events[:-1]] == [segment["text"] for segment in events[-1].segments]


def test_a_piece_is_streamed_before_the_next_is_heard(client, monkeypatch):
    from s3router.server import engine

    came, real, heard = threading.Event(), engine.hear, []

    def hear(*args, **more):
        if heard and not came.wait(60):
            raise RuntimeError("the first piece is not streamed")
        heard.append(args)
        return real(*args, **more)

    monkeypatch.setattr(engine, "hear", hear)
    recording = ("a.wav", in_turn(*AUDIO[:3]))
    events = client.audio.transcriptions.create(file=recording, model="it", chunking_strategy="auto", stream=True)
    assert next(events).type == "transcript.text.delta"
    came.set()
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert len(heard) == 3


def in_turn(*paths: Path) -> bytes:
    """A wav file of recordings with silence between them."""
    parts = [part for path in paths for part in (read_audio(path), np.zeros(16000, np.float32))][:-1]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_a_recording_is_cut_in_pauses_and_every_piece_has_its_route(client):
    wanted = {"file": ("a.wav", in_turn(*AUDIO)), "model": "auto", "response_format": "verbose_json"}
    whole = client.audio.transcriptions.create(**wanted)
    assert len(whole.segments) == 1
    found = client.audio.transcriptions.create(**wanted, chunking_strategy="auto")
    assert len(found.segments) == 5
    assert found.text == " ".join(segment.text for segment in found.segments if segment.text)
    for segment in found.segments:
        scores = segment.scores
        assert segment.route == next(iter(scores))
        assert segment.language == segment.route.split(".")[0]
    strict = {"type": "server_vad", "silence_duration_ms": 3000}
    assert len(client.audio.transcriptions.create(**wanted, chunking_strategy=strict).segments) == 1


def test_candidates_and_languages(client):
    def ask(**fields):
        return client.audio.transcriptions.create(file=AUDIO[0], model="auto", response_format="verbose_json", **fields)

    assert set(ask(extra_body={"candidates": "es,it"}).scores) == {"es", "it"}
    assert set(ask(extra_body={"candidates": ["ru", "it"]}).scores) == {"ru", "it"}
    assert set(ask(extra_body={"candidates[0]": "ru", "candidates[1]": "es"}).scores) == {"ru", "es"}
    assert ask(extra_body={"timestamp_granularities[0]": "word"}).words
    assert set(ask(language="fr").scores) == {"fr.CA"}
    assert ask(language="it-IT").route == "it"
    with pytest.raises(openai.BadRequestError, match="no route is for de; there are routes for es, fr, it, ru"):
        ask(language="de")
    with pytest.raises(openai.BadRequestError, match="route it is for it, not fr; take another route"):
        client.audio.transcriptions.create(file=AUDIO[0], model="it", language="fr")
    with pytest.raises(openai.BadRequestError, match="candidates are for model auto"):
        client.audio.transcriptions.create(file=AUDIO[0], model="it", extra_body={"candidates": "es"})


def test_models(client, server, packs):
    listed = {model.id: model for model in client.models.list().data}
    assert set(listed) == {"es", "fr.CA", "it", "ru", "auto"}
    assert (listed["it"].root, listed["it"].parent, listed["it"].owned_by) == ("it.pack", "tiny", "s3router")
    assert listed["it"].pack_bytes == (packs / "it.pack").stat().st_size
    assert client.models.retrieve("fr.CA").language == "fr"
    assert client.models.retrieve("auto") == listed["auto"]
    with pytest.raises(openai.NotFoundError, match=r"did you mean fr\.CA"):
        client.models.retrieve("frCA")
    assert json.loads(get(f"{server}/v1/models/it")[1])["resident_bytes"] > 0
    assert post(f"{server}/v1/models/it/unload", b"", "text/plain")[1]["resident_bytes"] == 0
    assert json.loads(get(f"{server}/v1/models/it")[1])["resident_bytes"] == 0
    assert post(f"{server}/v1/models/it/load", b"", "text/plain")[1]["resident_bytes"] > 0


def test_what_is_in_memory_is_looked_at_once_for_all_models(server, monkeypatch):
    from s3router.server.engine import Engine

    looks = []
    monkeypatch.setattr(Engine, "resident", property(lambda self: looks.append(self) or {"it": 5}))
    listed = {model["id"]: model for model in json.loads(get(f"{server}/v1/models")[1])["data"]}
    assert [listed[route]["resident_bytes"] for route in ("es", "it")] == [0, 5]
    assert len(looks) == 1


def test_health_and_metrics(client, server):
    client.audio.transcriptions.create(file=AUDIO[1], model="ru")
    for path in ("/health", "/"):
        with urllib.request.urlopen(urllib.request.Request(server + path, method="HEAD"), timeout=30) as reply:
            assert (reply.status, reply.read()) == (200, b"")
    health = json.loads(get(f"{server}/health")[1])
    assert (health["status"], health["routes"], health["backbone"]) == ("ok", 4, "tiny")
    assert "ru" in health["resident"]
    text = get(f"{server}/metrics")[1].decode()
    values = dict(re.findall(r"^(s3router_\S+) (\S+)$", text, re.MULTILINE))
    assert float(values['s3router_requests_total{model="ru",status="200"}']) >= 1
    assert float(values["s3router_audio_seconds_total"]) > 0
    assert float(values["s3router_resident_packs"]) == len(health["resident"])
    assert float(values["s3router_requests_in_flight"]) == 0


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "frCA"}, 404, "unknown route 'frCA'; did you mean fr.CA?"),
        ({"model": "auto", "candidates": "es,xx"}, 404, "unknown route 'xx'"),
        ({"model": ""}, 400, "model is missing"),
        ({"model": "it", "response_format": "xml"}, 400, "response_format 'xml' is not known; known: json, text"),
        ({"model": "it", "timestamp_granularities[]": "word"}, 400, "verbose_json only"),
        ({"model": "it", "response_format": "verbose_json", "timestamp_granularities[]": "line"}, 400, "'line'"),
        ({"model": "it", "candidate": "es"}, 400, "unknown field 'candidate'; known: file, model, candidates"),
        ({"model": "it", "stream[x]": "1"}, 400, "unknown field 'stream[x]'"),
        ({"model": "it", "stream[0]": "true"}, 400, "unknown field 'stream[0]'"),
        ({"model": "auto", "candidates[x]": "es"}, 400, "unknown field 'candidates[x]'"),
        ({"model": "it", "temperature[]": "1"}, 400, "unknown field 'temperature[]'"),
        ({"model": "it", "chunking_strategy[type": "server_vad"}, 400, "unknown field 'chunking_strategy[type'"),
        ({"model": "it", "chunking_strategy": "[" * 100_000}, 400, "chunking_strategy: expected auto"),
        ({"model": "it", "chunking_strategy": "[" * 1000}, 400, "chunking_strategy: expected auto"),
        (
            {"model": "it", "chunking_strategy": f'{{"type": "server_vad", "silence_duration_ms": {"9" * 400}}}'},
            400,
            "chunking_strategy: expected auto",
        ),
        ({"model": "it", "chunking_strategy": "often"}, 400, "chunking_strategy: expected auto"),
        ({"model": "it", "chunking_strategy": '{"type": "server_vad", "silence_duration_ms": "x"}'}, 400, "expected"),
        ({"model": "it", "stream": "true", "response_format": "srt"}, 400, "a stream is of response_format json"),
        ({"model": "it", "stream": "perhaps"}, 400, "stream 'perhaps'"),
    ],
)
def test_wrong_fields(server, fields, status, message):
    found = upload(server, *fields.items(), content=AUDIO[0].read_bytes())
    assert found[0] == status
    assert message in found[1]["error"]["message"]
    assert set(found[1]["error"]) == {"message", "type", "param", "code"}


def test_wrong_requests(server):
    assert upload(server, ("model", "it"))[1]["error"]["param"] == "file"
    assert upload(server, ("model", "it"), ("file", "/etc/passwd"))[1]["error"]["param"] == "file"
    twice = upload(
        server, ("model", "it"), content=b'a\r\n--X\r\nContent-Disposition: form-data; name="b"; filename="b"\r\n\r\nb'
    )
    assert twice[0] == 400
    url = f"{server}/v1/audio/transcriptions"
    assert post(url, b"{}", "application/json")[1]["error"]["message"].startswith("multipart/form-data is needed")
    assert post(url, b"garbage", "multipart/form-data; boundary=X")[0] == 400
    assert post(f"{server}/v1/audio/translations", b"", "text/plain")[0] == 404
    assert json.loads(get(url)[1])["error"]["message"] == "Method Not Allowed"


def test_fields_of_openai_that_change_nothing_and_other_spellings(server):
    fields = ("model", "it"), ("known_speaker_names[]", "Ann"), ("known_speaker_references[]", "data:audio/wav;base64,")
    content_type, body = form(*fields, content=AUDIO[0].read_bytes())
    content_type = content_type.replace("multipart/form-data", "Multipart/Form-Data")
    status, found = post(f"{server}/v1/audio/transcriptions", body, content_type)
    assert (status, found["text"]) == (200, upload(server, ("model", "it"), content=AUDIO[0].read_bytes())[1]["text"])


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "playlist", "short", "nan", "huge"])
def test_what_is_no_audio(server, kind, tmp_path, monkeypatch):
    flac = AUDIO[0].read_bytes()
    file = io.BytesIO()
    value = 1e20 if kind == "huge" else np.nan
    soundfile.write(file, np.full(800, value, np.float32), 16000, format="WAV", subtype="FLOAT")
    content = {
        "empty": b"",
        "text": b"no audio at all " * 100,
        "cut": flac[: len(flac) // 2],
        "playlist": f"ffconcat version 1.0\nfile {AUDIO[0]}\n".encode(),
        "short": quiet(0.001),
        "nan": file.getvalue(),
        "huge": file.getvalue(),
    }[kind]
    status, found = upload(server, ("model", "it"), content=content, name="../../secret/a.flac")
    assert status == 400
    assert found["error"]["code"] == ("audio_too_short" if kind == "short" else "audio_not_decodable")
    assert "secret" not in found["error"]["message"]
    assert upload(server, ("model", "it"), content=flac)[0] == 200


def test_limits(packs):
    from s3router.server.limits import Limits

    seconds = max(soundfile.info(path).duration for path in AUDIO)
    with serving(packs, limits=Limits(upload_mb=0.2, audio_seconds=seconds)) as (url, _):
        flac = max(AUDIO, key=lambda path: path.stat().st_size).read_bytes()
        assert upload(url, ("model", "it"), content=flac)[0] == 200
        status, found = upload(url, ("model", "it"), content=bytes(210_000))
        assert (status, found["error"]["code"]) == (413, "too_large")
        status, found = upload(url, ("model", "it"), content=quiet(seconds + 1))
        assert (status, found["error"]["code"]) == (413, "audio_too_long")


def quiet(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * 16000)), 16000, format="FLAC")
    return file.getvalue()


def test_a_key_is_asked_for_before_anything_is_read(packs):
    with serving(packs, key="secret") as (url, _):
        for path in ("/v1/models", "/v1/models/it", "/metrics"):
            assert get(url + path)[0] == 401
            assert get(url + path, Authorization="Bearer wrong")[0] == 401
            assert get(url + path, Authorization="Bearer secret")[0] == 200
        assert get(url + "/health")[0] == 200
        status, found = upload(url, ("model", "it"), content=AUDIO[0].read_bytes())
        assert (status, found["error"]["code"]) == (401, "invalid_api_key")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret")
        assert client.audio.transcriptions.create(file=AUDIO[0], model="it").text
        with pytest.raises(openai.NotFoundError):  # loading is off unless it was allowed
            client.post("/models/it/load", cast_to=object)


def test_other_hosts_are_refused_on_the_loopback(server):
    status, body = get(f"{server}/v1/models", Host="evil.example")
    error = json.loads(body)["error"]
    assert (status, error["code"], error["type"]) == (400, "invalid_host", "invalid_request_error")
    assert "answers as 127.0.0.1" in error["message"]
    assert get(f"{server}/v1/models", Host="127.0.0.1.evil.example:80")[0] == 400
    assert get(f"{server}/v1/models", Host="")[0] == 400
    assert get(f"{server}/v1/models", Host="localhost:1")[0] == 200
    assert get(f"{server}/v1/models", Host="[::1]:8000")[0] == 200


def test_pages_from_elsewhere_change_nothing(server, packs):
    unload = f"{server}/v1/models/it/unload"
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example:80"):
        status, found = post(unload, b"", "text/plain", Origin=origin)
        assert (status, found["error"]["code"]) == (403, "invalid_origin")
    for origin in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        assert post(unload, b"", "text/plain", Origin=origin)[0] == 200
    with serving(packs, key="secret", loading=True) as (url, _):  # which a page has to know
        headers = {"Origin": "https://app.example", "Authorization": "Bearer secret"}
        assert post(f"{url}/v1/models/it/unload", b"", "text/plain", **headers)[0] == 200


def test_an_analysis_is_served_where_there_is_one(server, packs, tmp_path):
    assert json.loads(get(f"{server}/health")[1])["analysis"] is False
    assert get(f"{server}/analysis/")[0] == 404
    folder = tmp_path / "analysis"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "index.html").write_text("<h1>Masks</h1>")
    (folder / "pairs.csv").write_text("a,b\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret")
    with serving(packs, analysis=folder) as (url, _):
        assert json.loads(get(f"{url}/health")[1])["analysis"] is True
        assert get(f"{url}/analysis/") == (200, b"<h1>Masks</h1>")
        assert get(f"{url}/analysis/pairs.csv") == (200, b"a,b\n")
        for path in ("link.csv", "none.csv", "../secret", "..%2fsecret"):
            status, body = get(f"{url}/analysis/{path}")
            assert status == 404
            assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
