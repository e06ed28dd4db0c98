"""The Common Voice recipe's preparation, on a miniature release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3router.corpora import commonvoice, commonvoice_release
from s3router.data.kaldi import DataDir
from s3router.errors import DataError
from s3router.miniatures import mini_commonvoice

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "egs/commonvoice/asr1/local"
RELEASE = "cv-corpus-0.0-mini"


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    """Dutch and Mandarin in the columns of now, Turkish in those of early releases."""
    out = tmp_path_factory.mktemp("cv")
    mini_commonvoice.commonvoice(out, ["nl", "zh-TW"], clips=30)
    mini_commonvoice.commonvoice(out, ["tr"], clips=30, layout="old")
    return out / RELEASE


@pytest.fixture
def release(mini: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(mini, tmp_path / RELEASE))


def run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "S3ROUTER_VENV": str(Path(sys.executable).parents[1])}
    command = ["bash", str(LOCAL / "data.sh"), *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def texts(folder: Path) -> dict[str, str]:
    return {utt.utt: utt.text for utt in DataDir.read(folder).utts}


def table_of(release: Path, lang: str, split: str) -> list[dict[str, str]]:
    header, *rows = (release / lang / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]


@pytest.mark.parametrize("lang", ["nl", "zh-TW", "tr"])
def test_all_clips_of_both_layouts(mini: Path, tmp_path: Path, lang: str):
    done = run(tmp_path, "--lang", lang, "--corpus", str(mini), "--subset", "all")
    assert done.returncode == 0, done.stderr
    for split in ("train", "dev", "test"):
        found = texts(tmp_path / f"data/{lang}/{split}")
        wanted = {row["path"].removesuffix(".mp3"): row["sentence"] for row in table_of(mini, lang, split)}
        assert {utt.split("-", 1)[1] for utt in found} == set(wanted)
        for utt, text in found.items():
            sentence = wanted[utt.split("-", 1)[1]]
            assert text.replace(" ", "")[-2:] in sentence.lower()
            assert not set(text) & set('".!')
    assert "speakers: none is in two of train, dev and test" in done.stdout
    assert (" " in next(iter(texts(tmp_path / f"data/{lang}/test").values()))) == (lang != "zh-TW")


def test_phonemes_lie_beside_the_letters(mini: Path, tmp_path: Path):
    command = ["--lang", "nl", "--corpus", str(mini), "--subset", "all"]
    assert run(tmp_path, *command).returncode == 0
    done = run(tmp_path, *command, "--token-type", "phn")
    assert done.returncode == 0, done.stderr
    letters, phones = texts(tmp_path / "data/nl/test"), texts(tmp_path / "data/nl_phn/test")
    assert letters.keys() == phones.keys()
    words = dict(row.split(" ", 1) for row in (tmp_path / "data/nl_phn/test/words").read_text().splitlines())
    assert words == letters
    assert all("ə" in text.split() for utt, text in phones.items() if "een" in letters[utt].split())


def test_a_second_run_changes_nothing_and_another_table_does(release: Path, tmp_path: Path):
    command = ["--lang", "tr", "--corpus", str(release), "--subset", "1min", "--token-type", "phn"]
    first = run(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    assert run(tmp_path, *command).stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before
    path = release / "tr/test.tsv"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-2]) + "\n", encoding="utf-8")
    assert run(tmp_path, *command).returncode == 0
    assert len(texts(tmp_path / "data/tr_phn/test")) == 4


@pytest.mark.parametrize("minutes", [0.2, 0.5, 0.7, None])
def test_the_draw_is_that_of_data_directories(mini: Path, minutes: float | None):
    table = mini / "nl/train.tsv"
    clips = commonvoice_release.with_files(commonvoice_release.read_table(table), table)
    part = commonvoice.draw(clips, "nl", "char", minutes, nj=2)
    whole = DataDir(mini, commonvoice.draw(clips[::-1], "nl", "char", None, nj=1).utts)
    expected = whole if minutes is None else whole.subset(minutes)
    assert sorted(u.utt for u in part.utts) == sorted(u.utt for u in expected.utts)
    assert part.seconds == pytest.approx(expected.seconds)


def test_what_cannot_be_used_is_left_out_with_the_reason(release: Path, tmp_path: Path):
    path = release / "zh-TW/train.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines]
    column = cells[0].index("sentence")
    cells[1][column], cells[2][column], cells[3][column] = "第3個", "卡拉OK", "слово"
    path.write_text("\n".join("\t".join(row) for row in cells) + "\n", encoding="utf-8")
    (release / "zh-TW/clips" / cells[4][1]).write_bytes(b"no audio at all")
    done = run(tmp_path, "--lang", "zh-TW", "--corpus", str(release), "--subset", "all", "--token-type", "phn")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "data/zh-TW_phn/train/left_out.tsv").read_text(encoding="utf-8").splitlines()[1:]
    reasons = {row.split("\t")[0].split("-", 1)[1]: row.split("\t")[1] for row in rows}
    names = [row[1].removesuffix(".mp3") for row in cells[1:5]]
    assert set(reasons) == set(names)
    for name, start in zip(
        names, ("digits", "no phonemes: espeak-ng reads a part in en", "outside", "audio"), strict=True
    ):
        assert reasons[name].startswith(start)
    assert "left out: 4 (" in done.stdout
    assert "audio: 1" in done.stdout


def test_shared_speakers_are_told_and_validated_leaves_them_out(release: Path, tmp_path: Path):
    train, test = release / "nl/train.tsv", release / "nl/test.tsv"
    row = test.read_text(encoding="utf-8").splitlines()[1]
    train.write_text(train.read_text(encoding="utf-8") + row + "\n", encoding="utf-8")
    command = ["--lang", "nl", "--corpus", str(release), "--subset", "all"]
    done = run(tmp_path, *command)
    assert "WARNING: 1 speakers are both in train and in test" in done.stderr
    assert "sentences: 1 of 6 test clips read a sentence that is in train, too" in done.stdout
    done = run(tmp_path, *command, "--train-from", "validated")
    assert "speakers: none is in two of train, dev and test" in done.stdout
    assert len(texts(tmp_path / "data/nl/train")) == 30


def test_large_splits_are_compared_in_passing(tmp_path: Path):
    """A whole training table of a large language has a million rows, its test table 16,000."""
    (tmp_path / "a.mp3").touch()
    folders = {split: tmp_path / split for split in ("train", "dev", "test")}
    for split, folder in folders.items():
        folder.mkdir()
        rows = range(20_000 if split != "dev" else 1)
        for name, content in {"wav.scp": tmp_path / "a.mp3", "text": "a", "words": "sentence number {}"}.items():
            lines = [f"{split}-{row:05} {str(content).format(row)}\n" for row in rows]
            (folder / name).write_text("".join(lines), encoding="utf-8")
    begun = time.process_time()
    assert "20000 of 20000 test clips" in commonvoice.overlaps(folders)[0][-1]
    assert time.process_time() - begun < 5


def damage(release: Path, what: str) -> None:
    folder = release / "nl"
    train = folder / "train.tsv"
    if what == "table":
        (folder / "dev.tsv").unlink()
    elif what == "clips":
        shutil.rmtree(folder / "clips")
    elif what == "clip":
        min((folder / "clips").iterdir()).unlink()
    elif what == "column":
        train.write_text(train.read_text(encoding="utf-8").replace("sentence\t", "text\t", 1), encoding="utf-8")
    elif what == "cells":
        train.write_text(train.read_text(encoding="utf-8") + "abc\tdef\n", encoding="utf-8")
    elif what == "empty":
        train.write_text(train.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    elif what == "encoding":
        train.write_bytes(train.read_text(encoding="utf-8").encode("utf-16"))
    elif what == "twice":
        text = train.read_text(encoding="utf-8")
        train.write_text(text + text.splitlines()[1] + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("table", "dev.tsv missing; unpack the archive of nl again"),
        ("clips", "clips missing; unpack the archive of nl again"),
        ("clip", "train.tsv: 1 problem:"),
        ("column", "no column sentence; found client_id, path, sentence_id, text"),
        ("cells", "line 32: 2 cells, the header has 13"),
        ("empty", "no clips in it"),
        ("encoding", "not UTF-8"),
        ("twice", "line 32: the clip common_voice_"),
    ],
)
def test_what_is_wrong_is_named(release: Path, tmp_path: Path, what: str, message: str):
    damage(release, what)
    done = run(tmp_path, "--lang", "nl", "--corpus", str(release), "--subset", "all")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lang", "xx"], "no language 'xx'; the languages there are: nl, tr, zh-TW"),
        (["--lang", "nl", "--subset", "1h"], "usable minutes, 1h wanted; take a smaller --subset, or all"),
        (["--lang", "nl", "--token-type", "bpe"], "invalid choice: 'bpe'"),
        (["--lang", "nl", "--subse", "1h"], "unknown option --subse"),
        (["--lang"], "--lang needs a value"),
    ],
)
def test_refused(mini: Path, tmp_path: Path, options: list[str], message: str):
    done = run(tmp_path, "--corpus", str(mini), *options)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "data").exists()


def test_which_release(mini: Path, tmp_path: Path):
    done = run(tmp_path, "--lang", "nl")
    assert done.returncode == 1
    assert "Common Voice is given out by the Mozilla Data Collective" in done.stderr
    assert 'download_dataset("ID")' in done.stderr
    assert "--release DIR" in done.stderr
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / RELEASE).symlink_to(mini)
    (tmp_path / "downloads" / f"{RELEASE}-nl.tar.gz").touch()  # what it was unpacked from
    done = run(tmp_path, "--lang", "nl", "--subset", "all")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path, "--lang", "nl", "--corpus", str(mini / "nl"), "--subset", "all").returncode == 0
    (tmp_path / "downloads/cv-corpus-1").mkdir()
    assert "which release? There are" in run(tmp_path, "--lang", "nl").stderr
    done = run(tmp_path, "--lang", "nl", "--corpus", str(mini.parent))
    assert f"perhaps {mini} is meant" in done.stderr


def test_early_releases_leave_out_the_ending_of_a_file(release: Path):
    table = release / "tr/dev.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace(".mp3", ""), encoding="utf-8")
    clips = commonvoice_release.with_files(commonvoice_release.read_table(table), table)
    assert all(clip.path.is_file() for clip in clips)
    for clip in clips[:2]:
        clip.path.unlink()
    with pytest.raises(DataError, match="2 problems"):
        commonvoice_release.with_files(clips, table)


def test_no_voice_for_a_language(release: Path, tmp_path: Path):
    (release / "nl").rename(release / "rw")  # Kinyarwanda
    command = ["--lang", "rw", "--corpus", str(release), "--subset", "all"]
    done = run(tmp_path, *command, "--token-type", "phn")
    assert done.returncode == 1
    assert "espeak-ng speaks no rw (voice rw): take --token-type char" in done.stderr
    assert run(tmp_path, *command).returncode == 0
