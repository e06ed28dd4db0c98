"""ML-SUPERB 2.0 in both of its layouts, on miniatures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from pyarrow import parquet

from s3router.corpora.ml_superb import prepare
from s3router.corpora.ml_superb_reserved import RESERVED
from s3router.data.kaldi import DataDir
from s3router.data.tokens import read_token_list
from s3router.errors import ConfigError, DataError
from s3router.miniatures.mini_ml_superb import LAYOUTS, ml_superb

ROOT = Path(__file__).resolve().parents[2]
LANGS = ["eng", "org_jpn", "tur"]
FILES, TABLES = LAYOUTS


@pytest.fixture(scope="module")
def minis(tmp_path_factory) -> dict[str, Path]:
    """Layout -> a miniature, all of the same sentences."""
    root = tmp_path_factory.mktemp("mini")
    for layout in LAYOUTS:
        ml_superb(root / layout, layout, LANGS, clips=8)
    return {layout: root / layout for layout in LAYOUTS}


@pytest.fixture
def files(minis, tmp_path: Path) -> Path:
    """One of files that a test may change."""
    return shutil.copytree(minis[FILES], tmp_path / "mini")


def texts(folder: Path) -> dict[str, str]:
    return {utt.utt: utt.text for utt in DataDir.read(folder).utts}


def references(folder: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in (folder / "reference").read_text(encoding="utf-8").splitlines())


def test_files_with_their_varieties(minis, tmp_path: Path):
    done = prepare(minis[FILES], tmp_path, dialects=minis[FILES] / "varieties")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "eng", "jpn", "tur"]
    assert {name: len(texts(tmp_path / "eng" / name)) for name in ("train_1h", "dev", "test")} == {
        "train_1h": 8,
        "dev": 3,
        "test": 3,
    }
    found = references(tmp_path / "all" / "test")
    assert sorted(found) == sorted(texts(tmp_path / "all" / "test"))
    assert found["cv_eng_000012"].startswith("[eng] ")
    assert found["cv_eng_000012"].endswith(".")  # as it was given out
    assert found["cv_org_jpn_000012"].startswith("[jpn] ")
    assert set(references(tmp_path / "all" / "dialect")) == {f"variety_eng_{n:06d}" for n in range(3)}
    for text in texts(tmp_path / "eng" / "train_1h").values():
        assert text == text.upper()
        assert not set(text) & set(".,!'")
    letters = {c for name in ("train_1h", "dev") for text in texts(tmp_path / "jpn" / name).values() for c in text}
    assert set(read_token_list(tmp_path / "jpn" / "tokens.txt")[3:-1]) == letters
    assert " " not in letters
    assert any("3 languages" in line for line in done.lines)


def test_the_ten_minutes_are_another_list(minis, tmp_path: Path):
    prepare(minis[FILES], tmp_path, subset="10min")
    assert len(texts(tmp_path / "eng" / "train_10min")) == 4
    with pytest.raises(ConfigError, match=r"--subset 10min: .* has 1h alone"):
        prepare(minis[TABLES], tmp_path, subset="10min")


def test_the_dataset_holds_out_of_training(minis, tmp_path: Path):
    prepare(minis[FILES], tmp_path / "files", dialects=minis[FILES] / "varieties")
    prepare(minis[TABLES], tmp_path / "tables")
    for lang in ("eng", "jpn"):
        train, dev = (texts(tmp_path / "tables" / lang / name) for name in ("train_1h", "dev"))
        assert len(dev) == 1
        assert train | dev == texts(tmp_path / "files" / lang / "train_1h")
        whole = texts(tmp_path / "files" / lang / "dev") | texts(tmp_path / "files" / lang / "test")
        assert texts(tmp_path / "tables" / lang / "test") == whole
    assert references(tmp_path / "tables/all/dialect") == references(tmp_path / "files/all/dialect")
    (table,) = map(parquet.read_table, minis[TABLES].glob("data/dev-*.parquet"))
    row = table.to_pylist()[-1]
    assert (tmp_path / "tables" / "audio" / f"{row['id']}.wav").read_bytes() == row["audio"]["bytes"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tables" / "audio").iterdir()}
    prepare(minis[TABLES], tmp_path / "tables")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tables" / "audio").iterdir()} == before


def test_a_dataset_saved_to_disk(minis, tmp_path: Path):
    for split in ("train", "dev", "dev_dialect"):
        (tmp_path / "saved" / split).mkdir(parents=True)
        table = pyarrow.concat_tables(map(parquet.read_table, sorted(minis[TABLES].glob(f"data/{split}-*.parquet"))))
        path = tmp_path / "saved" / split / "data-00000-of-00001.arrow"
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    prepare(tmp_path / "saved", tmp_path / "a")
    prepare(minis[TABLES], tmp_path / "b")
    for name in ("eng/train_1h", "jpn/dev", "all/test", "all/dialect"):
        assert texts(tmp_path / "a" / name) == texts(tmp_path / "b" / name)


def test_reserved_languages_keep_the_benchmarks_five(files: Path, tmp_path: Path):
    done = prepare(files, tmp_path / "a")
    assert len(texts(tmp_path / "a" / "tur" / "train_1h")) == 5
    assert any("tur is reserved" in warning for warning in done.warnings)
    names = sorted(RESERVED["tur"])
    for folder in files.glob("eighth_version/*/tur"):
        transcript = folder / "transcript_1h_train.txt"
        lines = transcript.read_text(encoding="utf-8").splitlines()
        for number, name in enumerate(names[: len(lines)]):
            old = lines[number].split()[0]
            (folder / "wav" / f"{old}.wav").rename(folder / "wav" / f"{name}.wav")
            lines[number] = lines[number].replace(old, name)
        names = names[len(lines) :]
        transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = prepare(files, tmp_path / "b")
    assert set(texts(tmp_path / "b" / "tur" / "train_1h")) == RESERVED["tur"]
    assert done.warnings == []


def test_what_is_left_out_is_listed(files: Path, tmp_path: Path):
    folder = files / "eighth_version" / "commonvoice" / "eng"
    transcript = folder / "transcript_1h_train.txt"
    lines = transcript.read_text(encoding="utf-8").splitlines()
    first, second, third = (line.split()[0] for line in lines[:3])
    soundfile.write(folder / "wav" / f"{first}.wav", np.full(16000 * 21, 0.1), 16000)
    soundfile.write(folder / "wav" / f"{third}.wav", np.full(16000 // 4, 0.1), 16000)
    lines[1] = f"{second} eng ?!"
    transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
    norwegian = shutil.copytree(folder, folder.parent / "nob")
    for path in [*norwegian.glob("*.txt")]:
        path.write_text(path.read_text(encoding="utf-8").replace("_eng_", "_nob_"), encoding="utf-8")
    for path in [*norwegian.glob("wav/*")]:
        path.rename(path.with_name(path.name.replace("_eng_", "_nob_")))
    prepare(files, tmp_path / "data")
    rows = [line.split("\t") for line in (tmp_path / "data/all/left_out.tsv").read_text().splitlines()]
    reasons = {utt: reason for _, utt, reason in rows}
    assert "too long: 21.0 s, at most 20 s" in reasons[first]
    assert reasons[second] == "nothing but punctuation"
    assert "too short" in reasons[third]  # fewer frames than characters
    assert len([utt for utt, reason in reasons.items() if reason == "Norwegian"]) == 7
    assert not (tmp_path / "data" / "nob").exists()
    assert not {first, second, third} & set(texts(tmp_path / "data" / "eng" / "train_1h"))


def test_other_rates_and_channels_are_converted(files: Path, tmp_path: Path):
    wav = next((files / "eighth_version" / "fleurs" / "eng" / "wav").iterdir())
    soundfile.write(wav, np.full((8000, 2), 0.25), 8000)
    transcripts = wav.parents[1].glob("*.txt")
    for path in transcripts:
        lines = path.read_text(encoding="utf-8").splitlines()
        lines = [f"{wav.stem} eng YES" if line.startswith(wav.stem) else line for line in lines]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(files, tmp_path / "data", langs=["eng"])
    (converted,) = (tmp_path / "data" / "audio").iterdir()
    samples, rate = soundfile.read(converted)
    assert (samples.shape, rate) == ((16000,), 16000)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "transcript_10min_test.txt").unlink(), "transcript_10min_test.txt is missing"),
        (lambda folder: next((folder / "wav").iterdir()).unlink(), r"wav/\w+\.wav is missing"),
        (lambda folder: (folder / "transcript_10min_dev.txt").write_text("alone\n"), "line 1 is not 'UTTERANCE COLUMN"),
        (lambda folder: next((folder / "wav").iterdir()).write_bytes(b"RIFFnothing"), r"\.wav"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(files: Path, tmp_path: Path, spoil, message):
    spoil(files / "eighth_version" / "fleurs" / "eng")
    with pytest.raises(DataError, match=message):
        prepare(files, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_tables_of_another_dataset(tmp_path: Path):
    parquet.write_table(pyarrow.table({"id": ["a"], "text": ["b"]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="no column language, audio"):
        prepare(tmp_path, tmp_path / "data")
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path, tmp_path / "data")


def test_the_recipe_takes_a_folder_and_says_how_to_get_one(minis, tmp_path: Path, monkeypatch):
    script = ROOT / "egs" / "ml_superb" / "asr1" / "local" / "data.sh"
    monkeypatch.setenv("S3ROUTER_VENV", str(Path(sys.executable).parents[1]))

    def run(*options: str) -> subprocess.CompletedProcess:
        command = ["bash", str(script), *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    refused = run()
    assert refused.returncode != 0
    assert "hf download espnet/ml_superb_hf" in refused.stderr
    assert "--corpus DIR" in refused.stderr
    done = run("--corpus", str(minis[FILES]), "--langs", "eng jpn")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["all", "eng", "jpn"]


def test_refused(minis, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--langs xyz: not in .*there are eng jpn tur"):
        prepare(minis[FILES], tmp_path, langs=["eng", "xyz"])
    with pytest.raises(ConfigError, match="--subset is 10min or 1h, not '2h'"):
        prepare(minis[FILES], tmp_path, subset="2h")
    with pytest.raises(ConfigError, match="has the varieties itself"):
        prepare(minis[TABLES], tmp_path, dialects=minis[FILES])
    assert list(tmp_path.iterdir()) == []
