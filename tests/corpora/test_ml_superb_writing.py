"""Languages of one's own in ML-SUPERB's layouts: what is written is read again as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router import cli
from s3router.corpora import ml_superb_writing
from s3router.corpora.ml_superb import prepare
from s3router.corpora.ml_superb_writing import LAYOUTS, write_layout
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError

COUNTS = {"train": 9, "dev": 2, "test": 3}
FILES, TABLES = LAYOUTS


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Path]:
    """Two languages with three sets each; utterances of one to two seconds."""
    rng, found = np.random.default_rng(0), {}
    for lang, letters in (("ell", "αβγδ"), ("fra", "abcd")):
        found[lang] = tmp_path / "own" / lang
        for name, count in COUNTS.items():
            utts = []
            for n in range(count):
                path = tmp_path / "own" / "wav" / f"{lang}-{name}-{n}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, rng.uniform(-0.5, 0.5, 16000 + 1000 * n), 16000, subtype="PCM_16")
                utts.append(Utterance(path.stem, str(path), f"{letters[n % 4]}, {letters}", "speaker"))
            DataDir(found[lang] / name, utts).write(found[lang] / name)
    return found


def read(folder: Path) -> dict[str, tuple[str, list[float]]]:
    """utterance -> (text, samples)."""
    return {utt.utt: (utt.text, read_audio(utt.source).tolist()) for utt in DataDir.read(folder).utts}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_again(layout: str, own, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ml_superb_writing, "_ROWS", 4)  # several groups of rows in a table
    line = write_layout(tmp_path / "out", own, layout, "mine")
    assert line.endswith("2 languages, 18 + 4 + 6 utterances for training, development and test")
    prepare(tmp_path / "out", tmp_path / "data")
    for lang, folder in own.items():
        given = {name: read(folder / name) for name in COUNTS}
        found = {name: read(tmp_path / "data" / lang / name) for name in ("train_1h", "dev", "test")}
        if layout == TABLES:  # a tenth of train and dev together is held out
            assert found["train_1h"] | found["dev"] == capitals(given["train"] | given["dev"])
            assert len(found["dev"]) == 1
        else:
            assert found["train_1h"] == capitals(given["train"])
            assert found["dev"] == capitals(given["dev"])
        assert found["test"] == capitals(given["test"])
    first = (tmp_path / "data/all/test/reference").read_text(encoding="utf-8").splitlines()[0]
    assert first == "ell-test-0 [ell] α, αβγδ"  # as it was given, punctuation included


def capitals(rows: dict[str, tuple[str, list[float]]]) -> dict[str, tuple[str, list[float]]]:
    return {utt: (text.replace(",", "").upper(), wave) for utt, (text, wave) in rows.items()}


def test_ten_minutes_and_an_hour_are_parts_of_what_is_there(own, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ml_superb_writing, "MINUTES", {"10min_train": 3 / 60, "1h_train": 6 / 60})
    write_layout(tmp_path / "out", own)
    for subset, seconds in (("10min", 3), ("1h", 6)):
        prepare(tmp_path / "out", tmp_path / subset, subset=subset)
        part = DataDir.read(tmp_path / subset / "fra" / f"train_{subset}")
        whole = DataDir.read(own["fra"] / "train").subset(seconds / 60)
        assert [utt.utt for utt in part.utts] == [utt.utt for utt in whole.utts]


def test_what_cannot_be_written(own, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"fr: languages are named by their ISO 639-3 codes"):
        write_layout(tmp_path / "out", {"fr": own["fra"]})
    with pytest.raises(ConfigError, match=r"--source 'a/b'"):
        write_layout(tmp_path / "out", own, source="a/b")
    with pytest.raises(ConfigError, match=r"the layout is eighth_version or huggingface, not 'kaldi'"):
        write_layout(tmp_path / "out", own, "kaldi")
    with pytest.raises(DataError, match=r"fra-train-0 is in ell/train and in fra/train"):
        write_layout(tmp_path / "out", {"ell": own["fra"], "fra": own["fra"]})
    (own["ell"] / "test" / "wav.scp").unlink()
    with pytest.raises(DataError, match=r"ell/test.*wav\.scp"):
        write_layout(tmp_path / "out", own)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already; name another folder"):
        write_layout(tmp_path / "out", own)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_broken_recording_leaves_nothing(layout: str, own, tmp_path: Path):
    broken = tmp_path / "own" / "wav" / "fra-test-2.wav"  # one of the last
    soundfile.write(broken, np.zeros(16000), 16000, subtype="PCM_16")
    broken.write_bytes(broken.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"fra-test-2\.wav"):
        write_layout(tmp_path / "out", own, layout)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_the_command(own, tmp_path: Path, capsys):
    languages = [f"{lang}={folder}" for lang, folder in own.items()]
    out = tmp_path / "out"
    assert cli.main(["ml-superb-write", str(out), *languages, "--source", "mine"]) == 0
    assert "2 languages" in capsys.readouterr().out
    assert (out / FILES / "mine" / "ell" / "transcript_10min_train.txt").is_file()
    assert cli.main(["ml-superb-write", str(tmp_path / "b"), "ell"]) == 1
    assert "the argument ell: expected LANG=DIR, each name once, as in ell=data/el" in capsys.readouterr().err
