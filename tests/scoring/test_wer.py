from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys

import pytest

from s3router.cli import main
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines
from s3router.scoring import stats
from s3router.scoring.files import read_text, write_text, write_trn
from s3router.scoring.stats import bootstrap_counts, bootstrap_difference, mean_spread
from s3router.scoring.wer import Counts, plain_cer, score, without_marks, write_alignments

REF = {"a": "the cat sat on the mat", "b": "good day", "c": "наберите номер"}
HYP = {"a": "the bat sat the mat now", "b": "", "c": "наберите номера"}


def test_counts_by_hand():
    result = score(REF, HYP)
    assert result.utterances[0].words == Counts(hits=4, substitutions=1, deletions=1, insertions=1)
    assert result.utterances[1].words == Counts(deletions=2)
    assert result.utterances[2].chars == Counts(hits=14, insertions=1)
    assert result.words == Counts(hits=5, substitutions=2, deletions=3, insertions=1)
    assert result.wer == pytest.approx(6 / 10)
    # "cat"→"bat" 1, "on " 3, " now" 4, "good day" 8, one letter
    assert result.cer == pytest.approx((1 + 3 + 4 + 8 + 1) / (22 + 8 + 14))
    assert result.sentence_error_rate == 1.0
    numbers = result.as_dict()
    assert (numbers["n_utts"], numbers["n_words"], numbers["n_chars"]) == (3, 10, 44)
    assert json.loads(json.dumps(numbers))["words"]["deletions"] == 3


def test_published_example():
    """The example in jiwer's documentation of its alignments, with its counts and its WER of 88.89 %."""
    ref = {"1": "short one here", "2": "quite a bit of longer sentence"}
    hyp = {"1": "shoe order one", "2": "quite bit of an even longest sentence here"}
    result = score(ref, hyp)
    assert result.words == Counts(hits=5, substitutions=2, deletions=2, insertions=4)
    assert result.wer == pytest.approx(0.8889, abs=5e-5)


def test_blanks_do_not_count():
    assert score({"u": " two  words "}, {"u": "two words"}).cer == 0.0


@pytest.mark.parametrize(
    ("ref", "hyp", "message"),
    [
        ({"a": "x", "b": "  "}, {"a": "x", "b": "y"}, r"1 references without words \(b\)"),
        ({"a": "x", "b": "y"}, {"a": "x"}, r"1 references without a hypothesis \(b\)"),
        ({"a": "x"}, {"a": "x", "z": "y"}, r"1 hypotheses without a reference \(z\)"),
        ({}, {}, "no references"),
    ],
)
def test_bad_sets_are_refused(ref, hyp, message):
    with pytest.raises(DataError, match=message):
        score(ref, hyp)


def test_read_text(tmp_path):
    path = tmp_path / "text"
    path.write_text("u1 one  two\nu2\n", encoding="utf-8")
    assert read_text(path) == {"u1": "one two", "u2": ""}
    path.write_text("u1 one\n\nu1 two\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is empty, line 3: id u1 appears twice"):
        read_text(path)
    path.write_bytes(b"u1 caf\xe9\n")
    with pytest.raises(DataError, match="not a UTF-8"):
        read_text(path)
    path.write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        read_text(path)
    with pytest.raises(DataError, match="no such file"):
        read_text(tmp_path / "missing")


def test_alignments_are_readable(tmp_path):
    write_alignments(tmp_path / "alignments.txt", score(REF, HYP))
    lines = (tmp_path / "alignments.txt").read_text(encoding="utf-8").splitlines()
    at = lines.index("a: 3/6 words wrong (S 1, D 1, I 1), 8/22 characters")
    assert lines[at + 1 : at + 4] == [
        "REF the cat sat on the mat ***",
        "HYP the bat sat ** the mat now",
        "        S       D          I",
    ]


def test_trn(tmp_path):
    write_trn(tmp_path / "hyp.trn", HYP, {"a": "anna", "b": "bob"})
    assert (tmp_path / "hyp.trn").read_text(encoding="utf-8").splitlines() == [
        "the bat sat the mat now (anna-a)",
        "(bob-b)",
        "наберите номера (c-c)",
    ]
    with pytest.raises(DataError, match="parentheses"):
        write_trn(tmp_path / "bad.trn", {"u(1)": "x"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hyp.trn"]


def test_devices_and_links_are_written_through(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    write_lines(tmp_path / "link", ["a"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "a\n"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_lines(tmp_path / "pipe", ["b"])
    assert os.read(reader, 10) == b"b\n"
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_a_folder_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(DataError, match="a folder; name a file"):
        write_lines(tmp_path, (pytest.fail("work was done") for _ in range(1)))
    assert list(tmp_path.iterdir()) == []


SCLITE = [shutil.which("sclite")] if shutil.which("sclite") else [shutil.which("sctk"), "sclite"]


@pytest.mark.skipif(SCLITE[0] is None, reason="sclite is not installed (Debian package sctk)")
def test_same_counts_as_sclite(tmp_path):
    rng = random.Random(1)
    vocabulary = ["naber", "числ", "один", "duo", "tres", "quatre", "hash", "press", "now"]
    ref, hyp = {}, {}
    for k in range(60):
        words = rng.choices(vocabulary, k=rng.randint(1, 12))
        ref[f"u{k:03}"] = " ".join(words)
        changed = [w for w in words if rng.random() > 0.1]
        changed = [rng.choice(vocabulary) if rng.random() < 0.1 else w for w in changed]
        if rng.random() < 0.3:
            changed.insert(rng.randint(0, len(changed)), "extra")
        hyp[f"u{k:03}"] = " ".join(changed)
    speakers = {utt: f"s{int(utt[1:]) % 3}" for utt in ref}
    write_trn(tmp_path / "ref.trn", ref, speakers)
    write_trn(tmp_path / "hyp.trn", hyp, speakers)
    command = [*SCLITE, "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "spu_id", "-e", "utf-8"]
    command += ["-o", "rsum", "stdout"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    sums = re.search(r"\|\s*Sum\s*\|([^|]*)\|([^|]*)\|", out)
    assert sums, out
    sentences, words = map(int, sums[1].split())
    errors = int(sums[2].split()[4])
    result = score(ref, hyp)
    assert (len(ref), result.words.total) == (sentences, words)
    assert result.words.errors == errors  # how they divide into kinds differs where alignments tie


def test_mean_spread():
    assert mean_spread([0.2, 0.3, 0.4]).percent() == "30.0 ± 10.0"
    assert mean_spread([0.251]).percent(2) == "25.10"
    with pytest.raises(DataError):
        mean_spread([])


def test_bootstrap_interval():
    same = score(REF, HYP)
    assert bootstrap_difference([same], [same]).low == 0.0
    better = score(REF, {**HYP, "b": "good day"})
    found = bootstrap_difference([better], [same], "wer")
    assert found.difference == pytest.approx(-2 / 10)
    assert found.low < found.difference < found.high <= 0
    assert found.a_better > 0.7
    both = bootstrap_difference([better, same], [same])
    assert both.difference == pytest.approx(-1 / 10)
    with pytest.raises(DataError, match="same utterances"):
        bootstrap_difference([same], [score({"x": "y"}, {"x": "y"})])
    with pytest.raises(ConfigError, match="known: wer, cer"):
        bootstrap_difference([same], [same], "per")


def test_bootstrap_of_a_large_set_takes_little_memory(monkeypatch):
    rng = random.Random(0)
    counts = [[rng.randrange(high) for _ in range(300)] for high in (5, 5, 20)]
    whole = bootstrap_counts(*counts, resamples=1000)
    monkeypatch.setattr(stats, "_DRAWS", 300 * 7)  # seven resamples at a time
    parts = bootstrap_counts(*counts, resamples=1000)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high))
    assert parts.a_better == whole.a_better


def test_bootstrap_against_the_normal_interval():
    """With many equal utterances the interval approaches ±1.96 standard errors of the mean difference."""
    rng = random.Random(0)
    a = [float(rng.random() < 0.3) for _ in range(2000)]
    b = [float(rng.random() < 0.4) for _ in range(2000)]
    delta = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(delta) / len(delta)
    error = (sum((d - mean) ** 2 for d in delta) / len(delta) ** 2) ** 0.5
    found = bootstrap_counts(a, b, [1.0] * 2000, resamples=4000)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_command(tmp_path, capsys):
    write_text(tmp_path / "ref", REF)
    write_text(tmp_path / "hyp", HYP)
    ref, hyp = str(tmp_path / "ref"), str(tmp_path / "hyp")
    assert main(["score", "--ref", ref, "--hyp", hyp, "--json", str(tmp_path / "out.json"), "--versus", ref]) == 0
    assert "WER  60.00 %  (6 of 10 words: 2 substituted, 3 deleted, 1 inserted)" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["wer"] == 0.6
    assert main(["score", "--ref", ref, "--hyp", str(tmp_path / "none")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_importing_is_light():
    code = """import sys, s3router.scoring.wer, s3router.scoring.stats
print(*(name for name in ('torch', 'numpy', 'jiwer') if name in sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_diacritics_may_not_count():
    reference, hypothesis = {"a": "ọrọ òde ṣé"}, {"a": "oro ode se"}
    assert without_marks(reference["a"]) == "oro ode se"
    assert plain_cer(reference, hypothesis) == 0.0
    assert score(reference, hypothesis).cer == pytest.approx(5 / 10)


def test_a_reference_of_nothing_but_marks_keeps_them():
    assert plain_cer({"a": "ṣé", "b": "\u0301"}, {"a": "se", "b": ""}) == pytest.approx(1 / 3)
