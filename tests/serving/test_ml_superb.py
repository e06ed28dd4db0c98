"""The interface of the ML-SUPERB challenge over a folder of packs, and a classifier that is in doubt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router.cli import main
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.recordings import find_recordings
from s3router.errors import ConfigError, DataError
from s3router.serving.identify_first import Doubt, transcribe_identified
from s3router.serving.loading import load_routes
from s3router.serving.ml_superb import API
from s3router.serving.transcribe import transcribe
from tests.serving.test_language_classifier import classifier, spoken  # noqa: F401

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("upstream_in_place")


@pytest.fixture(scope="module")
def folder(route_packs, classifier, tmp_path_factory) -> Path:  # noqa: F811
    """it, es and ru with their classifier."""
    return gathered(tmp_path_factory.mktemp("model"), route_packs, classifier, "it", "es", "ru")


def gathered(target: Path, packs: list[Path], langid: Path, *names: str) -> Path:
    for pack in packs:
        if pack.stem in names:
            shutil.copy(pack, target)
    shutil.copy(langid, target / "langid.pack")
    return target


def waves(folder: Path) -> list[np.ndarray]:
    return [soundfile.read(path)[0] for path in sorted(folder.iterdir())]


def test_a_waveform_as_its_route_transcribes_it(folder, spoken, route_packs):  # noqa: F811
    api, model = API(folder), load_routes(route_packs)
    for lang, recordings in spoken.items():
        alone = {index: found.text for index, found in transcribe(model, find_recordings([recordings]), [lang])}
        heard = [api(wave) for wave in waves(recordings)]
        assert heard == [(lang, alone[index]) for index in range(len(heard))]
        assert list(api.decode(find_recordings([recordings])).values()) == heard


def test_the_true_language_is_believed_where_there_is_a_route_for_it(folder, spoken):  # noqa: F811
    api, wave = API(folder), waves(spoken["it"])[0]
    texts = {lang: api(wave, true_lid=lang) for lang in ("it", "es", "ru")}
    assert [found[0] for found in texts.values()] == ["it", "es", "ru"]
    assert len({text for _, text in texts.values()}) > 1
    assert api(wave, true_lid="xyz") == api(wave) == texts["it"]


def test_what_is_short_is_padded_and_what_is_no_waveform_is_refused(folder):
    api = API(folder)
    for wave in (np.zeros(0), np.zeros(10, np.float32), [0.0] * 100):
        assert api(wave)[0] in api.routes
    for wave in (np.zeros((2, 16000)), np.full(16000, np.nan)):
        with pytest.raises(DataError, match=r"is no waveform|NaN or infinite"):
            api(wave)


def test_a_route_that_is_no_language_is_for_those_without_one(route_packs, classifier, spoken, tmp_path):  # noqa: F811
    api = API(gathered(tmp_path, route_packs, classifier, "it", "fr.CA"))
    assert api.routes == {"it": "it", "es": "fr.CA", "ru": "fr.CA"}
    assert [api(wave)[0] for wave in waves(spoken["ru"])] == ["ru"] * 4
    utts = find_recordings([spoken["ru"]])
    alone = {index: found.text for index, found in transcribe(load_routes(route_packs), utts, ["fr.CA"])}
    assert [api(wave)[1] for wave in waves(spoken["ru"])] == [alone[index] for index in range(4)]


def test_in_doubt_the_surest_of_the_likeliest_routes_is_taken(folder, spoken, classifier):  # noqa: F811
    from s3router.serving.language_classifier import LanguageClassifier

    api, found = API(folder), LanguageClassifier.load(classifier)
    utts = [utt for recordings in spoken.values() for utt in find_recordings([recordings])]
    by_confidence = {index: t.route for index, t in transcribe(api.model, utts, list(found.languages))}
    heard = transcribe_identified(api.model, utts, found.languages, found, doubt=Doubt(best=3, sure=1.0))
    assert {index: t.route for index, t in heard} == by_confidence
    first = dict(transcribe_identified(api.model, utts, found.languages, found, doubt=Doubt(best=3, sure=0.0)))
    assert [first[index].route for index in range(12)] == ["it"] * 4 + ["ru"] * 4 + ["es"] * 4
    two = dict(transcribe_identified(api.model, utts, found.languages, found, doubt=Doubt(best=2, sure=1.0)))
    assert all(t.route in list(t.scores)[:2] for t in two.values())
    assert {index: t.route for index, t in two.items()} != {index: t.route for index, t in first.items()}


def test_values_of_doubt():
    assert Doubt(2, 0.5).candidates({"a": np.log(0.6), "b": np.log(0.3), "c": np.log(0.1)}) == ["a"]
    assert Doubt(2, 0.7).candidates({"a": np.log(0.6), "b": np.log(0.3), "c": np.log(0.1)}) == ["a", "b"]
    for values in ({"best": 0}, {"best": 1.5}, {"sure": 2}, {"sure": "x"}):
        with pytest.raises(ConfigError):
            Doubt(**values)


def test_weak_routes_are_neither_asked_nor_overruled():
    from s3router.serving.identify_first import _Job

    scores = {"a": np.log(0.5), "b": np.log(0.3), "c": np.log(0.2)}
    route_of = {"a": "a", "b": "b", "c": "b"}

    def asked(*weak: str) -> dict[str, str]:
        return _Job(None, [], route_of, None, None, None, Doubt(3, 0.9), frozenset(weak))._languages(scores)

    assert asked() == {"a": "a", "b": "b"}
    assert asked("a") == asked("b") == {"a": "a"}


@pytest.fixture
def sets(spoken, tmp_path) -> Path:  # noqa: F811
    """A data directory of all three languages with its references."""
    utts = [
        Utterance(f"{lang}-{path.stem}", str(path), "a", duration=soundfile.info(path).duration)
        for lang, recordings in spoken.items()
        for path in sorted(recordings.iterdir())
    ]
    data = DataDir(tmp_path / "test", utts).write(tmp_path / "test")
    text = "".join(f"{utt.utt} [{utt.utt.split('-')[0]}] a\n" for utt in data.utts)
    (tmp_path / "test" / "reference").write_text(text)
    return tmp_path / "test"


def test_the_command_decodes_as_the_class_does(folder, sets, tmp_path, capsys):
    api = API(folder)
    assert main(["ml-superb-decode", str(folder), "--data", str(sets), "--output-dir", str(tmp_path / "out")]) == 0
    lines = (tmp_path / "out/test/text").read_text(encoding="utf-8").splitlines()
    assert "12 utterances in 3 languages" in capsys.readouterr().out
    for utt, line in zip(DataDir.read(sets).utts, lines, strict=True):
        lang, text = api(soundfile.read(utt.source)[0])
        assert line == f"{utt.utt} [{lang}] {text}".rstrip()
    twice = ["--data", str(sets), str(sets), "--output-dir", str(tmp_path / "twice")]
    assert main(["ml-superb-decode", str(folder), *twice]) == 1
    assert "--data: two sets are called" in capsys.readouterr().err
    told = ["ml-superb-decode", str(folder), "--data", str(sets), "--output-dir", str(tmp_path / "told"), "--true-lid"]
    assert main(told) == 0
    assert (tmp_path / "told/test/text").read_text(encoding="utf-8").splitlines() == lines


def test_offline_in_a_process_of_its_own(folder, spoken):  # noqa: F811
    code = (
        "import sys, soundfile; from s3router.serving.ml_superb import API; "
        "print(API(sys.argv[1])(soundfile.read(sys.argv[2])[0])[0])"
    )
    wav = sorted(spoken["ru"].iterdir())[0]
    offline = {"HF_HUB_OFFLINE": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", code, str(folder), str(wav)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **offline}, cwd=ROOT)
    assert done.stdout.strip() == "ru", done.stderr


def test_folders_that_lack_something(route_packs, classifier, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match=r"no packs \(s3router pack\) in it"):
        API(tmp_path)
    gathered(tmp_path, route_packs, classifier, "it", "fr.CA")
    (tmp_path / "settings.json").write_text(json.dumps({"best": 2, "sure": 0.5}))
    assert API(tmp_path).doubt == Doubt(2, 0.5)
    (tmp_path / "settings.json").write_text(json.dumps({"bets": 2}))
    with pytest.raises(ConfigError, match="bets is not known; it has best and sure"):
        API(tmp_path)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "langid.pack").unlink()
    with pytest.raises(ConfigError, match=r"no langid\.pack in it"):
        API(tmp_path)
