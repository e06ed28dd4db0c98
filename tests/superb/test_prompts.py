"""The recipes on Asterisk's prompts, on made-up voices: who is on which side, and what is said of missing ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import DataError
from s3router.superb.labels import LabelledDir

KEYS = ["beep", *(f"digits/{n}" for n in range(6)), *(f"letters/{c}" for c in "abcdefgh"), "letters/at"]
KEYS += [f"words/{n}" for n in range(25)]
RECIPES = Path(__file__).parents[2] / "egs/asterisk"


def load(recipe: str, monkeypatch) -> ModuleType:
    """local/prepare.py of a recipe, which finds its neighbours as it does when it is run."""
    monkeypatch.syspath_prepend(str(RECIPES / "sid1/local"))
    for name in ("people", "prepare"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location(f"prepare_{recipe}", RECIPES / recipe / "local/prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module: ModuleType, monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *options])
    assert module.main() == 0


@pytest.fixture
def voices(tmp_path: Path):
    """A function: module -> two made-up Spanish voices in place of the real ones, with digits, letters and a beep."""

    def make(module: ModuleType) -> None:
        kind = module.VOICES[0].__class__
        module.VOICES = tuple(kind(name, "es", f"package-{name}", "sounds", ".wav") for name in ("ana", "eva"))
        random = np.random.default_rng(0)
        for voice in module.VOICES:
            for key in KEYS:
                path = tmp_path / "downloads" / voice.package / f"sounds/{key}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_audio(path, 0.2 * random.standard_normal(12000), 16000)

    return make


def options_of(tmp_path: Path) -> list[str]:
    return ["--prompts", str(tmp_path), "--downloads", str(tmp_path / "downloads"), "--out", str(tmp_path / "data")]


def test_speakers(voices, tmp_path, monkeypatch):
    module = load("sid1", monkeypatch)
    voices(module)
    run(module, monkeypatch, *options_of(tmp_path))
    sides = {side: LabelledDir.read(tmp_path / "data" / side) for side in ("train", "dev", "test")}
    keys = {side: {utt.split("-", 2)[2] for utt in found.labels} for side, found in sides.items()}
    assert len(set.union(*keys.values())) == sum(map(len, keys.values())) == len(KEYS) - 1  # none on two sides, no beep
    assert {label for found in sides.values() for (label,) in found.labels.values()} == {"ana", "eva"}
    assert all(module.side_of(key.replace("_", "/")) == side for side, names in keys.items() for key in names)
    samples = read_audio(sides["train"].data.utts[0].source)
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    assert spectrum[int(0.55 * len(spectrum)) :].sum() < 1e-3 * spectrum.sum()  # white noise no more


def test_keywords_are_learnt_from_one_voice_and_tested_on_the_other(voices, tmp_path, monkeypatch):
    module = load("ks1", monkeypatch)
    voices(module)
    (tmp_path / "downloads/package-eva/sounds/letters/h.wav").unlink()
    run(module, monkeypatch, "--lang", "es", *options_of(tmp_path))
    sides = {side: LabelledDir.read(tmp_path / "data" / side) for side in ("train", "dev", "test")}
    wanted = {*"012345", *"abcdefg"}  # letters/at is no letter, and eva has no h
    assert all({label for (label,) in found.labels.values()} == wanted for found in sides.values())
    assert {u.speaker for side in ("train", "dev") for u in sides[side].data.utts} == {"ana"}
    assert {u.speaker for u in sides["test"].data.utts} == {"eva"}
    assert len(sides["test"].labels) == len(wanted)
    seconds = {u.utt: u.duration for u in sides["train"].data.utts}
    assert seconds["ana-0-080"] / seconds["ana-0-120"] == pytest.approx(120 / 80, rel=0.01)  # slower is longer
    assert not {u.utt for u in sides["train"].data.utts} & {u.utt for u in sides["dev"].data.utts}


def test_languages(tmp_path, monkeypatch):
    module = load("lid1", monkeypatch)
    write_audio(tmp_path / "a.wav", np.zeros(8000), 16000)
    for lang in module.LANGUAGES:
        for side in ("train", "dev", "test"):
            utts = [Utterance(f"{lang}-{side}-{n}", str(tmp_path / "a.wav"), "hola", lang, 0.5) for n in range(2)]
            DataDir(tmp_path / lang / side, utts).write(tmp_path / lang / side)
    run(module, monkeypatch, "--prompts", str(tmp_path), "--out", str(tmp_path / "data"))
    assert LabelledDir.read(tmp_path / "data/dev").labels == {
        f"{lang}-dev-{n}": (lang,) for lang in module.LANGUAGES for n in range(2)
    }


def test_a_voice_that_is_not_there_is_named(voices, tmp_path, monkeypatch):
    module = load("sid1", monkeypatch)
    voices(module)
    module.VOICES += (module.VOICES[0].__class__("leo", "es", "package-leo", "sounds", ".wav"),)
    with pytest.raises(DataError, match=r"fetch the voice leo \(package-leo\)"):
        run(module, monkeypatch, *options_of(tmp_path))
    assert not (tmp_path / "data/train").exists()


def test_gsm_files_are_read(tmp_path):
    path = tmp_path / "a.gsm"
    path.write_bytes((b"\xd0" + bytes(32)) * 50)  # 50 frames of 20 ms at 8 kHz
    assert read_audio(path).shape == (16000,)
