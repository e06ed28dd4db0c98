"""The Router: the commands' numbers, whatever form the audio has."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import s3router
from s3router import cli
from s3router.data.audio import read_audio, resample
from s3router.errors import ConfigError, DataError, PackError

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "tests" / "fixtures" / "five"
AUDIO = sorted((FIVE / "audio").iterdir())

pytestmark = pytest.mark.usefixtures("upstream_in_place")


@pytest.fixture(scope="module")
def router(route_packs, upstream_in_place) -> s3router.Router:
    return s3router.Router("tiny", packs=route_packs)


def test_one_recording_by_a_named_route(router, route_packs, capsys):
    found = router.transcribe(AUDIO[0], route="it", words=True)
    assert cli.main(["transcribe", "--routes", str(route_packs[2]), str(AUDIO[0])]) == 0
    assert capsys.readouterr().out == f"{AUDIO[0]}\t{found.text}\n"
    assert (found.route, found.language, found.source) == ("it", "it", str(AUDIO[0]))
    assert found.seconds == pytest.approx(len(read_audio(AUDIO[0])) / 16000)
    assert " ".join(word.word for word in found.words) == found.text
    assert all(0 <= word.start < word.end <= found.seconds + 0.02 for word in found.words)
    assert router.transcribe(AUDIO[0], "it").words is None
    assert router.transcribe(AUDIO[0], "fr.CA").language == "fr"


def test_auto_and_many_recordings_in_their_order(router, route_packs, capsys):
    found = list(router.transcribe_all([FIVE / "audio"], "auto", among=["it", "es"]))
    options = ["--lang", "auto", "--among", "it", "es", "--json", str(FIVE / "audio")]
    assert cli.main(["transcribe", "--routes", *map(str, route_packs), *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["source"], line["lang"], line["text"]) for line in lines] == [
        (each.source, each.route, each.text) for each in found
    ]
    assert [each.source for each in found] == [str(path) for path in AUDIO]
    for each, line in zip(found, lines, strict=True):
        assert list(each.scores) == list(line["scores"])
        assert next(iter(each.scores)) == each.route
        assert math.isfinite(each.confidence) or not each.text


def test_audio_in_memory(router):
    wave = read_audio(AUDIO[1])
    expected = router.transcribe(AUDIO[1], "it")
    pcm = (wave.astype(np.float64) * 32768).round().astype(np.int16)
    forms = [
        wave,
        torch.from_numpy(wave),
        pcm,
        AUDIO[1].read_bytes(),
        {"array": wave, "sampling_rate": 16000},
        {"bytes": AUDIO[1].read_bytes(), "path": None},
        {"bytes": None, "path": str(AUDIO[1])},
    ]
    for audio in forms:
        found = router.transcribe(audio, "it")
        assert (found.text, found.confidence, found.seconds) == (expected.text, expected.confidence, expected.seconds)
    with open(AUDIO[1], "rb") as file:
        assert router.transcribe(file, "it").text == expected.text
    slow = router.transcribe({"array": resample(wave, 16000, 8000), "sampling_rate": 8000}, "it")
    assert slow.seconds == pytest.approx(expected.seconds, abs=1e-3)
    assert [each.text for each in router.transcribe_all([wave, AUDIO[1]], "it")] == [expected.text] * 2


def test_a_language_classifier_chooses(route_packs, tmp_path, capsys):
    sets = [f"{route}={FIVE}" for route in ("es", "it")]
    fit = ["--upstream", "tiny", "--fit", *sets, "--dev", *sets, "--layers", "1", "-o", str(tmp_path / "langid.pack")]
    assert cli.main(["langid", *fit]) == 0
    router = s3router.Router(packs=route_packs, langid=tmp_path / "langid.pack")
    found = router.transcribe(AUDIO[0], "auto", among=["es", "it"])
    assert sum(math.exp(score) for score in found.scores.values()) == pytest.approx(1)
    assert found.text == router.transcribe(read_audio(AUDIO[0]), found.route).text
    with pytest.raises(ConfigError, match=r"does not know fr\.CA, ru"):
        router.transcribe(AUDIO[0], "auto")


def test_packs_come_and_go(route_packs):
    router = s3router.Router(packs=route_packs[:1])
    assert router.routes == ("es",)
    assert router.transcribe(AUDIO[0]).route == "es"
    assert router.add(route_packs[2]) == "it"
    assert router.routes == ("es", "it")
    with pytest.raises(ConfigError, match="route is missing; known: es, it, or auto"):
        router.transcribe(AUDIO[0])
    router.remove("es")
    assert router.transcribe(AUDIO[0]).route == "it"


def test_what_is_refused(router, route_packs, make_upstream, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown route 'frCA'; did you mean fr\.CA\?"):
        router.transcribe(AUDIO[0], "frCA")
    with pytest.raises(ConfigError, match="among names the candidates of route auto"):
        router.transcribe(AUDIO[0], "es", among=["it"])
    with pytest.raises(ConfigError, match="stands for several recordings; transcribe_all takes it"):
        router.transcribe(FIVE, "es")
    with pytest.raises(ConfigError, match="no route classifies here"):
        router.classify(AUDIO[0])
    with pytest.raises(ConfigError, match="no packs given"):
        s3router.Router("tiny")
    other = make_upstream(tmp_path / "other", seed=1)
    with pytest.raises(PackError, match="another backbone"):
        s3router.Router("auto", route_packs, upstream_ckpt=str(other))
    for audio, message in (
        (np.zeros((2, 16000), np.float32), r"float32 of shape \(2, 16000\) is no waveform"),
        (np.full(16000, np.nan, np.float32), "NaN or infinite samples"),
        (np.zeros(10, np.float32), "shorter than the 25 ms"),
        (["no", "audio"], "is no waveform"),
        ({"path": None}, "neither array, bytes nor path"),
        ({"array": np.zeros(800), "sampling_rate": math.inf}, "array without a sampling_rate"),
        (np.full(16000, 1e20), "samples of up to 1e[+]20, where full scale is 1"),
        (io.StringIO("text"), "open for text"),
        ("", "an empty path"),
        (b"RIFFnothing", "audio: "),
        (tmp_path / "none.wav", r"none\.wav: no such file"),
    ):
        with pytest.raises(DataError, match=message):
            router.transcribe(audio, "es")


def test_what_is_refused_of_options_and_waveforms(router, route_packs):
    with pytest.raises(ConfigError, match=r"options of type dict; give BatchOptions"):
        s3router.Router(packs=route_packs, options={"bf16": True})
    wave = torch.zeros(1600)
    for waves, routes, message in (
        ([wave], ["es", "it"], "1 waveforms and 2 routes"),
        ([], [], "give at least one"),
        ([wave.double()], "es", "torch.float64; give"),
        ([wave[None]], "es", r"a waveform of shape \(1, 1600\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            router.model.log_probs(waves, routes)


def test_experiments_may_be_added_and_repositories_one_pack_at_a_time(route_packs, route_experiments):
    router = s3router.Router(packs=route_packs[:1])
    added = router.add(route_experiments["it"])
    assert added == route_experiments["it"].name
    assert router.transcribe(AUDIO[0], added).text == s3router.Router(packs=[route_packs[2]]).transcribe(AUDIO[0]).text
    with pytest.raises(ConfigError, match="user/packs@main: a repository; add the paths"):
        router.add("user/packs@main")


def test_labels(hand_made, monkeypatch, capsys):
    monkeypatch.setenv("S3ROUTER_TINY", str(hand_made["ks"].parent / "tiny"))
    router = s3router.Router(packs=hand_made.values())
    found = router.classify(AUDIO[0], top=2)
    assert cli.main(["classify", "--routes", str(hand_made["ks"]), "--top", "2", str(AUDIO[0])]) == 0
    lines = [line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()]
    assert lines == [[label, f"{probability:.4f}"] for label, probability in found.labels]
    assert (found.label, found.confidence) == found.labels[0]
    assert (found.route, found.source) == ("ks", str(AUDIO[0]))
    assert router.transcribe(AUDIO[0], "auto").route in ("es", "fr")
    with pytest.raises(ConfigError, match="at least 1"):
        router.classify(AUDIO[0], top=0)


def test_importing_costs_nothing_and_names_are_typed():
    code = "import sys, s3router; print('torch' in sys.modules, 'numpy' in sys.modules); s3router.Router; print(1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False", "False", "1"]
    assert set(s3router.__all__) <= set(dir(s3router))
    assert all(getattr(s3router, name) is not None for name in s3router.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Rooter'"):
        s3router.Rooter  # noqa: B018
    assert (ROOT / "s3router" / "py.typed").is_file()
