"""Yoruba and Mboshi: preparations, on miniatures of the repositories' layouts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router.corpora import mboshi, yoruba
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]


def record(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    soundfile.write(path, rng.normal(0, 0.1, int(16000 * seconds)).astype(np.float32), 16000)


@pytest.fixture
def yo(tmp_path: Path) -> Path:
    root = tmp_path / "yoruba_speech_project"
    sentences = ["Oke Okun, ni ## .", "bi iru ẹni bẹ̀ ṣe npe ## .", "ί kan ## .", "a le ka si ounjẹ-osan ## ."]
    (root / "split_text").mkdir(parents=True)
    (root / "split_text" / "yor_split_7.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    linker = root / "recordings" / "a_elicit" / "a_elicit_linker.txt"
    linker.parent.mkdir(parents=True)
    base = "/storage/emulated/0/aikuma"
    linker.write_text(
        "".join(
            f"{base}/yor_split_text/yor_split_7.txt (line {n}) ; {base}/recordings/a_elicit/a_elicit_{n - 1}.wav\n"
            for n in range(1, 5)
        )
    )
    for part, numbers in {"train": (0, 1), "val": (2,), "test": (3,)}.items():
        for n in numbers:
            record(root / "data" / "records" / part / f"a_elicit_{n}.wav")
    return root


@pytest.fixture
def mdw(tmp_path: Path) -> Path:
    root = tmp_path / "mboshi-french-parallel-corpus"
    for part, names in {"train": ["anna_1", "anna_2", "bela_1", "bela_2"], "dev": ["anna_9"]}.items():
        for name in names:
            folder = root / "full_corpus_newsplit" / part
            record(folder / f"{name}.wav")
            text = "wa adí la mbóngi" if name.endswith("1") else f"kyéma {name[0]} ωε"
            (folder / f"{name}.mb.cleaned").write_text(f"{text}\n", encoding="utf-8")
    return root


def texts(folder: Path) -> dict[str, str]:
    return {utt.utt: utt.text for utt in DataDir.read(folder).utts}


def test_yoruba_takes_the_repositorys_partition(yo: Path, tmp_path: Path):
    done = yoruba.prepare(yo.parent, tmp_path / "data")
    assert list(done.sets) == ["test", "dev", "train"]
    assert texts(tmp_path / "data" / "train") == {
        "yor_874-a_elicit_0": "oke okun ni",
        "yor_874-a_elicit_1": "bi iru ẹni bẹ̀ ṣe npe",
    }
    assert texts(tmp_path / "data" / "dev") == {"yor_874-a_elicit_2": "í kan"}  # a Greek letter stood there
    assert texts(tmp_path / "data" / "test") == {"yor_874-a_elicit_3": "a le ka si ounjẹ osan"}
    assert len(done.warnings) == 3  # fewer than the release has


def test_yoruba_names_what_does_not_go_together(yo: Path, tmp_path: Path):
    record(yo / "data" / "records" / "val" / "stranger.wav")
    with pytest.raises(DataError, match=r"stranger\.wav: no text"):
        yoruba.prepare(yo, tmp_path / "data")
    linker = next(yo.rglob("*_linker.txt"))
    linker.write_text(linker.read_text().replace("(line 4)", "(line 44)"))
    with pytest.raises(DataError, match=r"yor_split_7\.txt has no line 44"):
        yoruba.prepare(yo, tmp_path / "data")
    with pytest.raises(ConfigError, match="10min or all"):
        yoruba.prepare(yo, tmp_path / "data", subset="1h")
    assert not (tmp_path / "data").exists()


def test_mboshi_holds_out_sentences_not_recordings(mdw: Path, tmp_path: Path):
    done = mboshi.prepare(mdw.parent, tmp_path / "data")
    assert list(done.sets) == ["test", "dev", "train"]
    train, dev = texts(tmp_path / "data" / "train"), texts(tmp_path / "data" / "dev")
    assert train
    assert dev
    assert len(train) + len(dev) == 4
    assert not set(train.values()) & set(dev.values())
    assert texts(tmp_path / "data" / "test") == {"anna_9": "kyéma a ωε"}
    speakers = {utt.utt: utt.speaker for utt in DataDir.read(tmp_path / "data" / "test").utts}
    assert speakers == {"anna_9": "anna"}


def test_a_recording_in_two_formats_is_named(yo: Path, mdw: Path, tmp_path: Path):
    for folder, prepare, corpus in (
        (mdw / "full_corpus_newsplit" / "train", mboshi.prepare, mdw),
        (yo / "data" / "records" / "train", yoruba.prepare, yo),
    ):
        first = min(folder.glob("*.wav"))
        shutil.copy(first, first.with_suffix(".flac"))
        with pytest.raises(DataError, match=rf"{first.stem}.flac and {first.stem}.wav: one recording in two formats"):
            prepare(corpus, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_mboshi_names_what_is_missing(mdw: Path, tmp_path: Path):
    (mdw / "full_corpus_newsplit" / "train" / "bela_1.mb.cleaned").unlink()
    with pytest.raises(DataError, match=r"bela_1\.wav: bela_1\.mb\.cleaned is missing"):
        mboshi.prepare(mdw, tmp_path / "data")
    shutil.rmtree(mdw / "full_corpus_newsplit" / "dev")
    with pytest.raises(DataError, match="full_corpus_newsplit/dev missing"):
        mboshi.prepare(mdw, tmp_path / "data")


@pytest.mark.parametrize("recipe", ["yoruba", "mboshi"])
def test_a_recipe_takes_a_folder_and_names_the_way_out_without_one(recipe, yo, mdw, tmp_path, monkeypatch):
    script = ROOT / "egs" / recipe / "asr1" / "local" / "data.sh"
    monkeypatch.setenv("S3ROUTER_VENV", str(Path(sys.executable).parents[1]))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")

    def run(*options: str) -> subprocess.CompletedProcess:
        command = ["bash", str(script), "--subset", "all", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    done = run("--corpus", str(yo if recipe == "yoruba" else mdw))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("data/*/train/wav.scp"))
    refused = run()
    assert refused.returncode != 0
    assert "--corpus DIR" in refused.stderr
    assert "downloads/" in refused.stderr


@pytest.mark.parametrize("recipe", ["yoruba", "mboshi"])
def test_training_finds_the_whole_training_set(recipe, yo, mdw, tmp_path, monkeypatch):
    monkeypatch.setenv("S3ROUTER_VENV", str(Path(sys.executable).parents[1]))
    folder = tmp_path / "recipe"
    folder.mkdir()
    for name in ("local", "conf", "path.sh"):
        (folder / name).symlink_to(ROOT / "egs" / recipe / "asr1" / name)
    script = (ROOT / "egs" / recipe / "asr1" / "run.sh").read_text(encoding="utf-8")
    assert "../../TEMPLATE/" in script
    (folder / "run.sh").write_text(script.replace("../../TEMPLATE/", f"{ROOT}/egs/TEMPLATE/"), encoding="utf-8")
    command = ["bash", str(folder / "run.sh"), "--upstream", "tiny", "--subset", "all", "--stop-stage", "2"]
    command += ["--corpus", str(yo if recipe == "yoruba" else mdw)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(f.parent.name for f in folder.glob("dump/*/*/wav.scp")) == ["dev", "test", "train"]
