"""Tux Paint's stamps: texts and recordings of one package, in its layout, in several languages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router.cli import main
from s3router.corpora.stamps import prepare
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
SPEECH = read_audio(sorted((ROOT / "tests/fixtures/five/audio").iterdir())[0])
STAMPS = {
    "animals/cow": {"fr": "Une vache.", "ro": "O vacă şi un viţel."},
    "animals/calf": {"fr": "Une vache", "ro": "Un vițel"},
    "household/set": {"fr": "100 cents valent 1 dollar.", "ro": "Litera ш"},
    "symbols/alphabets/english/a": {"fr": "La lettre a.", "ro": "Litera a."},
    "people/long": {"fr": "Une phrase bien trop longue pour ce qui est dit ici. " * 5, "ro": None},
}


@pytest.fixture
def package(tmp_path) -> Path:
    """The unpacked package; every recording is the same sentence, with a second of silence on both sides."""
    for key, texts in STAMPS.items():
        stem = tmp_path / "package/usr/share/tuxpaint/stamps" / key
        stem.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{lang}.utf8={text}" for lang, text in texts.items() if text]
        stem.with_suffix(".txt").write_text("\n".join(["In English.", *lines]), encoding="utf-8")
        silence = np.zeros(16000, np.float32)
        for lang in texts:
            wave = np.concatenate([silence, SPEECH, silence])
            soundfile.write(f"{stem}_desc_{lang}.ogg", wave, 16000, format="OGG", subtype="VORBIS")
    return tmp_path / "package"


def sets(folder: Path) -> dict[str, str]:
    """Utterance -> text, of all sets."""
    found = {}
    for name in ("train", "dev", "test"):
        if (folder / name / "text").read_text(encoding="utf-8"):
            found |= {utt.utt: utt.text for utt in DataDir.read(folder / name).utts}
    return found


def dropped(folder: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in (folder / "dropped.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    return {stamp: reason for stamp, reason, _ in rows}


def test_texts_recordings_and_what_is_left_out(package, tmp_path):
    prepare(package, tmp_path / "fr", lang="fr")
    assert sets(tmp_path / "fr") == {"stamps-fr-animals_calf": "une vache", "stamps-fr-animals_cow": "une vache"}
    found = dropped(tmp_path / "fr")
    assert found.pop("people/long").startswith("not its transcript")
    assert found == {
        "household/set": "digits: they have no single reading",
        "symbols/alphabets/english/a": "the name of a letter",
    }
    prepare(package, tmp_path / "ro", lang="ro")
    assert sets(tmp_path / "ro")["stamps-ro-animals_cow"] == "o vacă și un vițel"
    assert dropped(tmp_path / "ro")["people/long"] == "no text in this language"
    assert "outside the alphabet" in dropped(tmp_path / "ro")["household/set"]


def test_silence_is_cut_off_and_one_text_lies_on_one_side(package, tmp_path):
    done = prepare(package, tmp_path / "fr", lang="fr")
    [name] = [name for name, folder in done.sets.items() if (folder / "text").read_text()]
    for utt in DataDir.read(done.sets[name]).utts:
        assert len(SPEECH) / 16000 - 0.5 < utt.duration < len(SPEECH) / 16000 + 0.5
        assert soundfile.info(utt.source).samplerate == 16000


def test_other_languages_and_folders_are_refused(package, tmp_path, capsys):
    with pytest.raises(ConfigError, match="known: be, bg, ca"):
        prepare(package, tmp_path / "xx", lang="xx")
    with pytest.raises(DataError, match="name the unpacked package tuxpaint-stamps-default"):
        prepare(package.parent, tmp_path / "x", lang="fr")
    with pytest.raises(DataError, match="no usable recording in 'el'"):
        prepare(package, tmp_path / "x", lang="el")
    assert main(["prepare", "stamps", str(package), str(tmp_path / "x"), "--lang", "el"]) == 1
    assert "no usable recording" in capsys.readouterr().err
    assert not (tmp_path / "x/train").exists()


def test_the_recipe_takes_a_folder(package, tmp_path):
    script = ROOT / "egs/stamps/asr1/local/data.sh"
    command = ["bash", script, "--lang", "ro", "--corpus", package, "--data", tmp_path / "data"]
    subprocess.run(command, check=True, capture_output=True)
    assert len(sets(tmp_path / "data/ro")) == 2


def test_they_become_a_corpus_in_the_layout_of_ml_superb(package, tmp_path):
    words = ("pomme", "poire", "prune", "melon", "raisin", "figue")
    for number in range(30):  # enough for three sets
        stem = package / f"usr/share/tuxpaint/stamps/food/{number:02d}"
        stem.parent.mkdir(exist_ok=True)
        text = f"Une {words[number % 6]} et un {words[number // 6]}."
        stem.with_suffix(".txt").write_text(f"In English.\nfr.utf8={text}", encoding="utf-8")
        soundfile.write(f"{stem}_desc_fr.ogg", SPEECH, 16000, format="OGG", subtype="VORBIS")
    script = ROOT / "egs/ml_superb/asr1/local/stamps.sh"
    command = ["bash", script, "--stamps", package, "--downloads", tmp_path / "downloads", "--langs"]
    done = subprocess.run([*command, "fra xyz"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "local/stamps.sh: --langs: xyz is none of bel bul cat dan" in done.stderr
    subprocess.run([*command, "fra"], check=True, capture_output=True)
    folder = tmp_path / "downloads/stamps_eighth_version/eighth_version/stamps/fra"
    names = [f"transcript_{name}.txt" for name in ("1h_train", "10min_dev", "10min_test")]
    lines = [line for name in names for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(list((folder / "wav").iterdir())) > 25
    assert all(line.startswith("stamps-fr-") and " fra une " in line for line in lines)
    done = subprocess.run([*command, "fra"], capture_output=True, text=True, check=False)
    assert "stamps_eighth_version is there already; remove it first" in done.stderr
