"""The command s3router prepare, and what it says of corpora that are not there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from s3router import cli
from s3router.cli.prepare import CORPORA
from s3router.cli.prepare_mini import main as prepare_mini
from s3router.corpora import sets
from s3router.data.kaldi import DataDir
from s3router.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {
    "librispeech": ["--subset", "1h"],
    "commonvoice": ["--lang", "nl"],
    "asterisk": ["--lang", "it"],
    "asterisk-speakers": ["--voices", "."],
    "asterisk-keywords": ["--lang", "it", "--voices", "."],
    "stamps": ["--lang", "el"],
    "asterisk-untranscribed": ["--prompts", "empty"],
    "asterisk-menardi": ["--prompts", "empty"],
    "synthetic": ["--prompts", "empty"],
    "iemocap": ["--fold", "1", "--lists", "own"],
}


def s3router(*words: str) -> int:
    return cli.main(["prepare", *words])


def test_the_help_lists_the_corpora():
    done = subprocess.run(
        [sys.executable, "-m", "s3router", "prepare", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert all(f"    {name}" in done.stdout for name in CORPORA)
    assert "NAME SOURCE TARGET" in done.stdout


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_says_what_it_reads_and_writes(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        s3router(name, "--help")
    text = capsys.readouterr().out
    assert "Layout" in text
    assert "Writes" in text
    assert "Raises" not in text
    function, _, options = CORPORA[name]
    assert "Raises:\n" in inspect.getdoc(function)
    parameters = set(inspect.signature(function).parameters) - {"source", "target", "known"}
    assert {flag.removeprefix("--").replace("-", "_") for flag, _ in options} == parameters


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("source", ["nowhere", "empty", "file"])
def test_what_is_no_corpus_is_named_in_one_line(name, source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    before = set(tmp_path.rglob("*"))
    assert s3router(name, source, "out", *NEEDED.get(name, [])) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert source in found.err
    if source != "empty":
        assert {"nowhere": "no such folder", "file": "not a folder"}[source] in found.err
        assert found.err.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before


def test_a_wrong_command_line_is_refused(tmp_path, capsys):
    for words in ([], ["bogus"], ["asterisk", "x"], ["asterisk", "x", "y", "--lang", "de"], ["iemocap", "x", "y"]):
        with pytest.raises(SystemExit, match="2"):
            s3router(*words)
        assert "s3router prepare" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["gsm", "ulaw", "sln16"])
def test_a_voice_in_another_format_is_named(suffix, tmp_path, capsys):
    (tmp_path / "voice/digits").mkdir(parents=True)
    (tmp_path / f"voice/digits/1.{suffix}").write_bytes(b"x")
    assert s3router("asterisk", str(tmp_path / "voice"), str(tmp_path / "out"), "--lang", "it") == 1
    assert f"a voice in .{suffix}; this corpus is made from G.722" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_warnings_and_the_report_have_streams_of_their_own(tmp_path, capsys):
    assert prepare_mini(["asr", str(tmp_path / "corpus")]) == 0
    capsys.readouterr()
    assert s3router("librispeech-superb", str(tmp_path / "corpus"), str(tmp_path / "data")) == 0
    found = capsys.readouterr()
    assert "WARNING: test-clean has 2 utterances, the release 2620\n" in found.err
    assert found.out.splitlines()[-1] == f"{tmp_path / 'data/train'}: 6 utterances, 0.0 h"
    assert len(DataDir.read(tmp_path / "data/train").utts) == 6


def test_a_corpus_is_found_at_or_under_the_folder(tmp_path):
    for folder in ("top/inner/a", "top/inner/b", "top/a"):
        (tmp_path / folder).mkdir(parents=True)
    assert sets.find_folder(tmp_path / "top", "Corpus", ["a", "b"], ["inner"]) == tmp_path / "top/inner"
    assert sets.find_folder(tmp_path / "top/inner", "Corpus", ["a", "b"], ["inner"]) == tmp_path / "top/inner"
    with pytest.raises(DataError, match="top: c missing; Corpus has it: unpack the archives again"):
        sets.find_folder(tmp_path / "top", "Corpus", ["a", "c"], [])
    with pytest.raises(DataError, match=r"not Corpus \(there: a, inner\); expected x in it or in inner/ under it"):
        sets.find_folder(tmp_path / "top", "Corpus", ["x"], ["inner"])


def test_lists_are_read_as_a_whole(tmp_path):
    path = tmp_path / "list"
    with pytest.raises(DataError, match="list is missing: from the site"):
        sets.read_list(path, r"(\d) (\w+)", "<N> NAME", "from the site")
    path.write_text("1 a\n x y\n2 b\n3\n")
    with pytest.raises(DataError, match=r"2 problems:\n  line 2 is not '<N> NAME': ' x y'\n  line 4"):
        sets.read_list(path, r"(\d) (\w+)", "<N> NAME", "from the site")
    path.write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        sets.read_list(path, r"(\d) (\w+)", "<N> NAME", "from the site")
    path.write_bytes("1 é\n".encode("latin1"))
    with pytest.raises(DataError, match=r"not UTF-8 .*unpack the corpus again"):
        sets.read_list(path, r"(\d) (\w+)", "<N> NAME", "from the site")
    path.write_text(" 1 a \n2 b\n")
    path.with_suffix(".csv").write_bytes("a,b\n1,é\n".encode("latin1"))
    with pytest.raises(DataError, match="not UTF-8"):
        sets.read_csv(path.with_suffix(".csv"), ["a"], "a table")
    path.with_suffix(".csv").write_text("a,b\n1\n")
    with pytest.raises(DataError, match="row 2 has fewer cells than the header"):
        sets.read_csv(path.with_suffix(".csv"), ["a", "b"], "a table")
    assert [m[2] for m in sets.read_list(path, r"(\d) (\w+)", "<N> NAME", "from the site")] == ["a", "b"]
