"""The recipes on Asterisk's prompts, on made-up voices: who is on which side, and what is said of missing ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s3router.corpora import asterisk_keywords, asterisk_languages, asterisk_speakers, asterisk_trials
from s3router.corpora.asterisk import side_of
from s3router.corpora.asterisk_voices import Voice
from s3router.data.audio import read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError
from s3router.superb.labels import read_labels

KEYS = ["beep", *(f"digits/{n}" for n in range(6)), *(f"letters/{c}" for c in "abcdefgh"), "letters/at"]
KEYS += [f"words/{n}" for n in range(25)]
VOICES = tuple(Voice(name, "es", f"package-{name}", "sounds", ".wav") for name in ("ana", "eva"))
"""Two made-up Spanish voices in place of the real ones."""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with the voices' packages: digits, letters, other words and a beep."""
    random = np.random.default_rng(0)
    for voice in VOICES:
        for key in KEYS:
            path = tmp_path / "voices" / voice.package / f"sounds/{key}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, 0.2 * random.standard_normal(12000), 16000)
    return tmp_path


def options_of(top: Path) -> dict:
    return {"source": top, "target": top / "data", "voices": top / "voices", "known": VOICES}


def test_speakers(top):
    done = asterisk_speakers.prepare(**options_of(top))
    assert list(done.sets) == ["test", "dev", "train"]
    sides = {side: read_labels(top / "data" / side) for side in ("train", "dev", "test")}
    keys = {side: {utt.split("-", 2)[2] for utt in found.labels} for side, found in sides.items()}
    assert len(set.union(*keys.values())) == sum(map(len, keys.values())) == len(KEYS) - 1  # none on two sides, no beep
    assert {label for found in sides.values() for (label,) in found.labels.values()} == {"ana", "eva"}
    assert all(side_of(key.replace("_", "/")) == side for side, names in keys.items() for key in names)
    samples = read_audio(sides["train"].data.utts[0].source)
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    assert spectrum[int(0.55 * len(spectrum)) :].sum() < 1e-3 * spectrum.sum()  # white noise no more


def test_keywords_are_learnt_from_one_voice_and_tested_on_the_other(top):
    (top / "voices/package-eva/sounds/letters/h.wav").unlink()
    asterisk_keywords.prepare(**options_of(top), lang="es")
    sides = {side: read_labels(top / "data" / side) for side in ("train", "dev", "test")}
    wanted = {*"012345", *"abcdefg"}  # letters/at is no letter, and eva has no h
    assert all({label for (label,) in found.labels.values()} == wanted for found in sides.values())
    assert {u.speaker for side in ("train", "dev") for u in sides[side].data.utts} == {"ana"}
    assert {u.speaker for u in sides["test"].data.utts} == {"eva"}
    assert len(sides["test"].labels) == len(wanted)
    seconds = {u.utt: u.duration for u in sides["train"].data.utts}
    assert seconds["ana-0-080"] / seconds["ana-0-120"] == pytest.approx(120 / 80, rel=0.01)  # slower is longer
    assert not {u.utt for u in sides["train"].data.utts} & {u.utt for u in sides["dev"].data.utts}


def test_languages(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(8000), 16000)
    for lang in asterisk_languages.LANGUAGES:
        for side in ("train", "dev", "test"):
            utts = [Utterance(f"{lang}-{side}-{n}", str(tmp_path / "a.wav"), "hola", lang, 0.5) for n in range(2)]
            DataDir(tmp_path / lang / side, utts).write(tmp_path / lang / side)
    asterisk_languages.prepare(tmp_path, tmp_path / "data")
    assert read_labels(tmp_path / "data/dev").labels == {
        f"{lang}-dev-{n}": (lang,) for lang in asterisk_languages.LANGUAGES for n in range(2)
    }


@pytest.fixture
def four_speakers(tmp_path: Path) -> Path:
    """Sets of four speakers, two utterances of each on every side."""
    write_audio(tmp_path / "a.wav", np.zeros(8000), 16000)
    for side in ("train", "dev", "test"):
        names = [(who, f"{who}-{side}-{n}") for who in ("ana", "eva", "leo", "mia") for n in range(2)]
        utts = [Utterance(utt, str(tmp_path / "a.wav"), "", who, 0.5) for who, utt in names]
        DataDir(tmp_path / side, utts).write(tmp_path / side)
    return tmp_path


def test_trials_are_of_speakers_who_were_not_trained_on(four_speakers):
    done = asterisk_trials.prepare(four_speakers, four_speakers / "data", unheard=("leo", "mia"))
    assert list(done.sets) == ["test", "dev", "train"]
    assert {who for (who,) in read_labels(four_speakers / "data/train").labels.values()} == {"ana", "eva"}
    for side, speakers in (("dev", {"ana", "eva"}), ("test", {"leo", "mia"})):
        trials = [line.split() for line in (four_speakers / f"data/{side}/trials").read_text().splitlines()]
        assert {utt.split("-")[0] for _, *pair in trials for utt in pair} == speakers
        assert all(int(kind) == (one.split("-")[0] == other.split("-")[0]) for kind, one, other in trials)
        assert [kind for kind, *_ in trials].count("1") == 4  # each utterance with the other one of its speaker


@pytest.mark.parametrize(
    ("unheard", "kind", "message"),
    [
        (("leo", "tom"), ConfigError, "--unheard tom: not among the speakers of"),
        (("leo",), ConfigError, "--unheard leo: trials need two speakers at least"),
        (("leo", "mia", "eva"), DataError, "whom --unheard does not name: ana; two are needed"),
    ],
)
def test_trials_need_their_speakers(four_speakers, unheard, kind, message):
    with pytest.raises(kind, match=message):
        asterisk_trials.prepare(four_speakers, four_speakers / "data", unheard=unheard)
    assert not (four_speakers / "data").exists()


def test_a_voice_that_is_not_there_is_named(top):
    options = options_of(top) | {"known": (*VOICES, Voice("leo", "es", "package-leo", "sounds", ".wav"))}
    with pytest.raises(DataError, match="the voice leo, from Debian's package package-leo"):
        asterisk_speakers.prepare(**options)
    assert not (top / "data").exists()


def test_a_limit_takes_some_prompts_of_each_voice(top):
    done = asterisk_speakers.prepare(**options_of(top), limit=38)
    assert sum(len(DataDir.read(folder, need_text=False).utts) for folder in done.sets.values()) == 2 * 38
    with pytest.raises(ConfigError, match="--limit 0: take one"):
        asterisk_speakers.prepare(**options_of(top), limit=0)


def test_a_language_with_one_voice_has_no_keywords(top):
    with pytest.raises(ConfigError, match="two voices are needed, and 'fr' does not have them: take es"):
        asterisk_keywords.prepare(**options_of(top), lang="fr")


def test_gsm_files_are_read(tmp_path):
    path = tmp_path / "a.gsm"
    path.write_bytes((b"\xd0" + bytes(32)) * 50)  # 50 frames of 20 ms at 8 kHz
    assert read_audio(path).shape == (16000,)
