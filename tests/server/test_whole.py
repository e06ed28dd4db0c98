"""A server of whole recognisers beside routes of their encoder."""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.recordings import find_recordings
from s3router.packs import write_pack
from s3router.serving.loading import load_routes
from s3router.serving.transcribe import transcribe
from tests.server.conftest import AUDIO, ROOT, serving
from tests.serving.test_whole_routes import encoder_pack, whole_pack
from tests.upstreams.whisper_files import huggingface_folder, small_whisper

openai = pytest.importorskip("openai", reason="tools/setup.sh --with-serve")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    return huggingface_folder(small_whisper(), tmp_path_factory.mktemp("whisper") / "small")


@pytest.fixture(scope="module")
def packs(whisper, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    for seed, (route, language) in enumerate({"yo": "yo", "italian": "it"}.items()):
        write_pack(folder / f"{route}.pack", whole_pack(whisper, route, language, seed))
    for seed, route in enumerate(("es", "ru")):
        write_pack(folder / f"{route}.pack", encoder_pack(whisper, route, seed))
    return folder


@pytest.fixture(scope="module")
def client(packs, whisper) -> Iterator:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with serving(packs, ckpt=str(whisper)) as (url, _):
            yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_both_kinds_at_once_as_without_a_server(client, packs, whisper):
    model = load_routes(sorted(packs.iterdir()), ckpt=str(whisper))
    routes, recordings = ("es", "italian", "ru", "yo"), find_recordings(AUDIO)
    options = BatchOptions(batch_seconds=0)
    expected = {route: dict(transcribe(model, recordings, [route], options)) for route in routes}
    expected["auto"] = dict(transcribe(model, recordings, routes, options))
    jobs = [(name, number) for name in expected for number in range(len(AUDIO))]

    def ask(job: tuple[str, int]):
        name, number = job
        return client.audio.transcriptions.create(file=AUDIO[number], model=name, response_format="verbose_json")

    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(ask, jobs))
    for (name, number), found in zip(jobs, answers, strict=True):
        wanted = expected[name][number]
        scores = {route: score if math.isfinite(score) else None for route, score in wanted.scores.items()}
        assert (found.route, found.text, found.scores) == (wanted.route, wanted.text, scores), (name, number)


def test_the_kind_and_language_of_routes(client):
    found = {model.id: (model.kind, model.language) for model in client.models.list().data if model.id != "auto"}
    assert found == {
        "yo": ("recogniser", "yo"),
        "italian": ("recogniser", "it"),
        "es": ("ctc", "es"),
        "ru": ("ctc", "ru"),
    }
    found = client.audio.transcriptions.create(
        file=AUDIO[0], model="auto", language="it", response_format="verbose_json"
    )
    assert (found.route, found.language) == ("italian", "it")


@pytest.mark.parametrize("name", ["yo", "es", "auto"])
def test_words_of_both_kinds_have_times(client, name):
    def ask(**more):
        return client.audio.transcriptions.create(file=AUDIO[0], model=name, response_format="verbose_json", **more)

    plain, found = ask(), ask(timestamp_granularities=["word"])
    assert plain.words is None
    assert (found.text, found.scores) == (plain.text, plain.scores)
    assert found.words
    assert "".join(f" {word.word}" if word.spaced else word.word for word in found.words).split() == found.text.split()
    assert all(0 <= word.start <= word.end <= found.duration + 0.02 for word in found.words)
    assert all(0 < word.probability <= 1 for word in found.words)


def test_subtitles_of_a_whole_recogniser_are_lines_of_words(client):
    found = client.audio.transcriptions.create(
        file=AUDIO[0], model="yo", response_format="verbose_json", timestamp_granularities=["word"]
    )
    subtitles = client.audio.transcriptions.create(file=AUDIO[0], model="yo", response_format="srt")
    cues = re.findall(r"\d+\n00:00:(\d\d,\d\d\d) --> 00:00:(\d\d,\d\d\d)\n(.+)\n", subtitles)
    assert " ".join(text for _, _, text in cues).split() == found.text.split()
    begins, ends = ([float(cue[place].replace(",", ".")) for cue in cues] for place in (0, 1))
    assert (begins[0], ends[-1]) == (found.words[0].start, found.words[-1].end)
    assert all(a <= b for a, b in zip(ends, begins[1:], strict=False))


def test_only_who_wants_times_waits_for_them(client, monkeypatch):
    from s3router.seq2seq import generate

    passes = []
    real = generate.token_times
    monkeypatch.setattr(generate, "token_times", lambda *args: passes.append(args) or real(*args))
    for form, count in (("json", 0), ("text", 0), ("verbose_json", 0), ("vtt", 1)):
        client.audio.transcriptions.create(file=AUDIO[0], model="yo", response_format=form)
        assert len(passes) == count, form


def test_packs_of_the_other_kind_are_left_out_where_there_is_no_decoder(packs, whisper, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("s3router.server.catalogue.RESCAN", 0.0)
    shutil.copy(packs / "es.pack", tmp_path)
    with serving(tmp_path, ckpt=str(whisper)) as (_, given), caplog.at_level(logging.WARNING):
        shutil.copy(packs / "yo.pack", tmp_path)
        assert set(given.catalogue.routes) == {"es"}
    assert "for a whole recogniser, which was not loaded" in caplog.records[-1].fields["reason"]
