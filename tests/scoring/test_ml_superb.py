"""The challenge's six figures, against a slow reference that is written from their definition."""

from __future__ import annotations

import json
import math
import random
import unicodedata
from pathlib import Path

import pytest

from s3router.cli import main
from s3router.errors import DataError
from s3router.scoring.ml_superb import ChallengeFigures, error_rate, score_set

CODES = ["cmn", "jpn", "tha", "yue", *(f"{a}{b}x" for a in "abcd" for b in "abcd")]
LETTERS = "aBcß éд中か ก .,!-'¿。«»€5  "


def distance(a: str, b: str) -> int:
    """Levenshtein's, by the recursion over a table."""
    rows = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return rows[-1][-1]


def plain(text: str, code: str) -> str:
    kept = ""
    for c in text.strip():
        if code in ("cmn", "jpn", "tha", "yue") and c.isspace():
            continue
        if not unicodedata.category(c).startswith("P"):
            kept += c
    return kept.upper()


def slow(references: dict[str, str], hypotheses: dict[str, str]) -> tuple[float, float, float, float]:
    """LID, CER, CER of the 15 worst, deviation: by the words of the challenge."""
    accuracies, rates = [], []
    for code in {reference[1:4] for reference in references.values()}:
        own = [utt for utt, reference in references.items() if reference[1:4] == code]
        own = [utt for utt in own if plain(references[utt][5:], code)]
        cers, hits = [], 0
        for utt in own:
            wanted, found = plain(references[utt][5:], code).strip(), plain(hypotheses[utt][5:], code).strip()
            cers.append(distance(wanted, found) / len(wanted))
            hits += hypotheses[utt][:5] == f"[{code}]"
        accuracies.append(hits / len(own))
        rates.append(sum(cers) / len(cers))
    mean = sum(rates) / len(rates)
    worst = sorted(rates)[-15:]
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1))
    return sum(accuracies) / len(accuracies), mean, sum(worst) / 15, deviation


def draw(seed: int) -> tuple[dict[str, str], dict[str, str]]:
    rng = random.Random(seed)
    references, hypotheses = {}, {}

    def text() -> str:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 12)))

    for number in range(120):
        code = CODES[number % len(CODES)]
        words = text()
        while number < len(CODES) and not plain(words, code).strip():
            words = text()  # every language has an utterance
        if not plain(words, code).strip():
            words = rng.choice(["", "?!", "...."])  # an empty reference
        heard = words if rng.random() < 0.3 else text()
        found = code if rng.random() < 0.7 else rng.choice([*CODES, "zz"])
        references[f"u{number}"], hypotheses[f"u{number}"] = f"[{code}] {words}", f"[{found}] {heard}"
    return references, hypotheses


@pytest.mark.parametrize("seed", range(20))
def test_random_texts_against_the_definition(seed: int):
    references, hypotheses = draw(seed)
    found = score_set(references, hypotheses)
    assert found.empty > 0
    assert (found.lid, found.cer, found.worst, found.deviation) == pytest.approx(slow(references, hypotheses))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "tag", "rate"),
    [
        ("I'll be there.", "ill be there", "[eng]", 0.0),
        ("Straße", "strasse", "[deu]", 0.0),
        ("a - b", "a b", "[eng]", 1 / 4),  # two blanks are left, and count
        ("a-b", "ab", "[eng]", 0.0),
        ("我 想", "我想", "[cmn]", 0.0),
        ("我 想", "我想", "[wuu]", 1 / 3),
        ("ab", "xyzab", "[eng]", 3 / 2),
        ("...", "ab", "[eng]", None),
        ("", "", "[eng]", None),
    ],
)
def test_one_utterance(reference, hypothesis, tag, rate):
    assert error_rate(reference, hypothesis, tag) == (None if rate is None else pytest.approx(rate))


def test_languages_count_alike_and_empty_references_leave_both():
    references = {"a": "[eng] x", "b": "[eng] x", "c": "[eng] x", "d": "[fra] ab", "e": "[fra] ?"}
    hypotheses = {"a": "[eng] x", "b": "[eng] x", "c": "[fra] y", "d": "[fra] ab", "e": "[eng] x"}
    found = score_set(references, hypotheses)
    assert found.lid == pytest.approx((2 / 3 + 1) / 2)
    assert found.cer == pytest.approx((1 / 3 + 0) / 2)
    assert found.deviation == pytest.approx(math.sqrt(2 * (1 / 6) ** 2))
    assert (found.empty, found.languages["fra"].utts) == (1, 1)
    assert found.worst == found.cer  # fewer than 15
    assert ChallengeFigures(found).six()["dialect_cer"] is None


def test_five_characters_are_the_language():
    found = score_set({"a": "[eng] x", "b": "[eng] x", "c": "[eng] x"}, {"a": "[eng]x", "b": "[engl] x", "c": ""})
    assert found.lid == pytest.approx(1 / 3)
    assert found.languages["eng"].cer == pytest.approx((0 + 0 + 1) / 3)  # of "] x" the bracket is punctuation


def test_what_cannot_be_scored():
    with pytest.raises(DataError, match=r"2 utterances are in one of the two alone, e\.g\. a among the references"):
        score_set({"a": "[eng] x"}, {"b": "[eng] x"})
    with pytest.raises(DataError, match="none of 1 references has any text"):
        score_set({"a": "[eng] ."}, {"a": "[eng] x"})


def write(path: Path, texts: dict[str, str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{utt} {text}\n" for utt, text in texts.items()), encoding="utf-8")
    return str(path)


def test_the_command(tmp_path: Path, capsys):
    ref = write(tmp_path / "ref", {"a": "[eng] a - b", "b": "[fra] oui"})
    hyp = write(tmp_path / "masks" / "text", {"a": "[eng] A  B", "b": "[eng] OU"})
    varieties = ["--dialect-ref", write(tmp_path / "d", {"c": "[eng] x"})]
    varieties += ["--dialect-hyp", write(tmp_path / "dh", {"c": "[eng] y"})]
    figures = tmp_path / "masks.json"
    assert main(["ml-superb-score", "--ref", ref, "--hyp", hyp, *varieties, "--json", str(figures)]) == 0
    out = capsys.readouterr().out
    row = "| masks | 50.0 | 16.7 | 16.7 | 23.6 | 100.0 | 100.0 |"
    assert row in out
    assert "worst: fra 33.3, eng 0.0" in out
    assert json.loads(figures.read_text())["standard"]["languages"]["fra"] == {"utts": 1, "cer": 1 / 3, "lid": 0.0}
    page = tmp_path / "page.md"
    assert main(["ml-superb-score", "--figures", f"masks={figures}", "--output", str(page)]) == 0
    assert row in page.read_text()
    other = write(tmp_path / "other", {"a": "[eng] A  B", "b": "[eng] OUI"})
    better = tmp_path / "better.json"
    assert main(["ml-superb-score", "--ref", ref, "--hyp", other, "--json", str(better)]) == 0
    assert main(["ml-superb-score", "--figures", f"masks={figures}", f"b={better}", "--output", str(page)]) == 0
    by_language = ["| CER of | utterances | masks | b |", "|---|---:|---:|---:|", "| fra | 1 | 33.3 | 0.0 |"]
    assert page.read_text().splitlines()[-4:] == [*by_language, "| eng | 1 | 0.0 | 0.0 |"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name --ref TEXT and --hyp TEXT to score, or --figures NAME=JSON"),
        (["--ref", "x"], "--ref goes with --hyp"),
        (["--ref", "x", "--hyp", "y", "--figures", "a=b"], "name --ref TEXT and --hyp TEXT to score, or"),
        (["--figures", "x"], "--figures x: expected NAME=JSON"),
        (["--figures", "a=none.json"], "none.json"),
        (["--ref", "none", "--hyp", "none"], "none: no such file"),
    ],
)
def test_the_command_refuses(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ml-superb-score", *options]) == 1
    assert message in capsys.readouterr().err


def test_other_json_is_named(tmp_path: Path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert main(["ml-superb-score", "--figures", f"x={tmp_path / 'x.json'}"]) == 1
    assert "x.json: not a file that" in capsys.readouterr().err
