"""The Asterisk recipe's preparation: the split, the drops, and local/data.sh on a small made-up voice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from s3router.corpora import asterisk, asterisk_table
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.errors import DataError

LOCAL = Path(__file__).resolve().parents[2] / "egs/asterisk/asr1/local"


def test_the_split_never_changes():
    # the shipped upstream was pretrained on the train side: a prompt that moves would leak into a test
    sides = {
        key: asterisk.side_of(key) for key in ("activated", "agent-loginok", "conf-invalid", "digits/1", "vm-press")
    }
    assert sides == {
        "activated": "train",
        "agent-loginok": "test",
        "conf-invalid": "dev",
        "digits/1": "train",
        "vm-press": "test",
    }
    shares = [asterisk.side_of(f"key-{i}") for i in range(4000)]
    assert shares.count("train") / 4000 == pytest.approx(0.75, abs=0.02)
    assert shares.count("dev") / 4000 == pytest.approx(0.10, abs=0.02)


def test_equal_texts_stay_on_one_side():
    texts = {f"key-{i}": f"text {i % 40}" for i in range(400)}
    sides = asterisk.assign_sides(texts)
    for text in set(texts.values()):
        assert len({sides[key] for key in texts if texts[key] == text}) == 1
    assert len(set(sides.values())) == 3


def test_transcript_files(tmp_path):
    (tmp_path / "t.txt").write_text(
        "\ufeff; a remark\n\nhello: Hello: world\ndigits/0: zero\ndigits/0: ten\nmenu: menu: press\nno colon\n"
    )
    raw, twice = asterisk.read_transcripts(tmp_path / "t.txt")
    assert raw == {"hello": "Hello: world", "digits/0": "zero", "menu": "press"}
    assert twice == {"digits/0"}


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        ("saved. vm-review-nonurgent: press four", "ambiguous: holds the entry vm-review-nonurgent:"),
        ("visit www.asterisk.org", "ambiguous: an internet address"),
        ("dial 8500 now", "ambiguous: a long number"),
        ("[tone]", "not speech"),
    ],
)
def test_transcripts_that_leave_open_what_was_said(transcript, reason):
    with pytest.raises(DataError, match=f"^{reason}"):
        asterisk.spoken_text(transcript, "en")


@pytest.mark.parametrize(
    ("seconds", "level", "text", "reason"),
    [
        (0.2, 0.1, "a", "too short"),
        (41, 0.1, "a", "too long"),
        (2, 0.0001, "a", "silence"),
        (0.4, 0.1, "a short error beep", "not its transcript: 18 characters in 0.40 s"),
    ],
)
def test_recordings_that_are_no_reading(seconds, level, text, reason):
    noise = np.random.default_rng(0).normal(0, level, int(seconds * 16000)).astype(np.float32)
    with pytest.raises(DataError, match=f"^{reason}"):
        asterisk.check_audio(noise, text)


def test_a_pace_that_is_not_the_voices():
    texts = {f"k{i}": "a" * 30 for i in range(10)} | {"cut": "a" * 30, "slow": "a" * 30, "brief": "aa"}
    paces = {f"k{i}": 14 + i / 10 for i in range(10)} | {"cut": 26.0, "slow": 8.0, "brief": 3.0}
    assert sorted(asterisk.off_pace(paces, texts)) == ["cut", "slow"]


def test_sentences_that_share_their_words():
    texts = {"a": "press one for more", "b": "press two for more", "c": "one two three", "d": "yes"}
    sides = {"a": "train", "b": "test", "c": "test", "d": "test"}
    assert asterisk.overlap_with_train(sides, texts) == (1, 2)


@pytest.fixture
def voice(five, tmp_path):
    """A folder like the unpacked archive of one voice: G.722 files and the transcripts."""
    av = pytest.importorskip("av")
    folder = tmp_path / "sounds"
    names = {"digits_tomorrow": "digits/1", "dictate_forhelp": "agent-loginok", "is-in-use": "conf-invalid"}
    for u in DataDir.read(five).utts:
        key = u.utt.split("-", 1)[1]
        path = folder / f"{names.get(key, key)}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = (read_audio(u.source)[None] * 32767).astype(np.int16)
        with av.open(str(path), "w", format="g722") as out:
            stream = out.add_stream("g722", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    lines = ["; Italian", "digits/1: Domani.", "agent-loginok: Premere 0 per l'aiuto", "conf-invalid: e' in uso"]
    lines += ["vm-Cust2: [un suono]", "beep: un beep", "vm-goodbye: pu? essere"]
    (folder / "core-sounds-it.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def run_data(folder: Path, *options: str) -> subprocess.CompletedProcess:
    venv = Path(sys.executable).parents[1]
    environment = {**os.environ, "S3ROUTER_VENV": str(venv)}
    command = ["bash", str(LOCAL / "data.sh"), *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_data_sh_from_a_folder(voice, tmp_path):
    done = run_data(tmp_path, "--lang", "it", "--sounds", str(voice))
    assert done.returncode == 0, done.stderr
    assert "WARNING: the it recordings differ from release 1.6.1" in done.stderr
    got = {
        name: [(u.utt, u.text) for u in DataDir.read(tmp_path / "data/it" / name).utts]
        for name in ("train", "dev", "test")
    }
    assert got == {
        "train": [("it_carlo-digits_1", "domani")],
        "dev": [("it_carlo-conf-invalid", "è in uso")],
        "test": [("it_carlo-agent-loginok", "premere zero per l'aiuto")],
    }
    dropped = [line.split("\t")[:2] for line in (tmp_path / "data/it/dropped.tsv").read_text().splitlines()[1:]]
    assert dropped == [
        ["vm-Cust2", "not speech: the transcript is a remark"],
        ["beep", "a transcript without a recording"],
        ["vm-goodbye", "damaged: a question mark stands for a letter"],
    ]
    for key, reason in dropped:
        assert f"{key}: {reason}" in done.stdout
    assert "0 of 1 test sentences of three words or more share over half of their words" in done.stdout

    asterisk_table.prepare(tmp_path / "data", tmp_path / "table.md")
    assert (
        (tmp_path / "table.md")
        .read_text()
        .splitlines()[2]
        .startswith("| it | carlo | 1 / 0.0 | 1 / 0.0 | 1 / 0.0 | 3 |")
    )

    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    again = run_data(tmp_path, "--lang", "it", "--sounds", str(voice))
    assert again.stdout.startswith("data/it is ready")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")} == times

    (tmp_path / "data/it/dev/wav.scp").unlink()  # a part that was deleted is made again
    assert run_data(tmp_path, "--lang", "it", "--corpus", str(voice)).returncode == 0  # as run.sh calls the folder
    assert len(DataDir.read(tmp_path / "data/it/dev").utts) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "--lang is missing"),
        (["--lang", "de"], "no Asterisk prompts in 'de'; known: en, es, fr, it, ru"),
        (["--lang", "it", "--sound", "x"], "unknown option --sound"),
        (["--lang"], "--lang needs a value"),
        (["--lang", "it", "--sounds", "/nowhere"], "/nowhere: no such folder"),
        (["--lang", "it", "--sounds", "."], "no core-sounds-it.txt under .; name it with --transcripts"),
        (["--lang", "it", "--transcripts", "x"], "--transcripts goes with --sounds"),
    ],
)
def test_data_sh_refuses(tmp_path, options, expected):
    done = run_data(tmp_path, *options)
    assert done.returncode == 1
    assert expected in done.stderr


def test_data_sh_without_a_voice(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/core-sounds-it.txt").write_text("a: b\n")
    done = run_data(tmp_path, "--lang", "it", "--sounds", "sounds")
    assert done.returncode == 1
    assert "expected one voice in G.722 (a digits/1.g722), found none" in done.stderr
    assert not (tmp_path / "data/it/train").exists()


def test_a_corpus_that_cannot_be_fetched_says_where_to_put_it(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    needed = ["bash", "cat", "cut", "dirname", "find", "grep", "head", "mkdir", "mktemp", "mv", "realpath"]
    needed += ["rm", "sha256sum", "sort", "tail", "tee"]
    for name in needed:  # no apt-get, curl or wget
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tools / name).symlink_to(found)
    done = subprocess.run(
        [str(tools / "bash"), str(LOCAL / "data.sh"), "--lang", "it"],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"Put one of these into {tmp_path}/downloads and run again" in done.stderr
    assert "asterisk-core-sounds-it-g722-1.6.1.tar.gz" in done.stderr
    assert not (tmp_path / "data/it").exists()


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "downloads").mkdir()
    archive = tmp_path / "downloads/asterisk-core-sounds-it-g722-1.6.1.tar.gz"
    archive.write_bytes(b"\x1f\x8b cut off")
    done = run_data(tmp_path, "--lang", "it")
    assert done.returncode == 1
    assert f"{archive} is damaged; delete it and run again" in done.stderr
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == [archive.name]
