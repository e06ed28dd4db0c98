"""Estimation of n-gram models, and beam search with them."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from s3router import cli
from s3router.asr.ctc_decode import GreedySearch
from s3router.asr.lm import arpa_vocabulary, estimate, units, write_arpa
from s3router.asr.search import BeamOptions, BeamSearch
from s3router.data.tokens import BLANK, SOS_EOS, SPACE, TokenIds
from s3router.errors import ConfigError, DataError

TOKENS = [BLANK, "<unk>", SPACE, *"abcdt", SOS_EOS]
SENTENCES = ["a cat", "a cab", "bad cat", "a cat", "a cat"]


def read_arpa(path) -> dict[tuple[str, ...], tuple[float, float]]:
    """n-gram -> (log10 probability, log10 back-off)."""
    found, order = {}, 0
    for line in path.read_text().splitlines():
        if line.endswith("-grams:"):
            order = int(line[1])
        elif line and order and not line.startswith("\\"):
            probability, *gram = line.split()
            found[tuple(gram[:order])] = (float(probability), float(gram[order]) if len(gram) > order else 0.0)
    return found


def log10_p(arpa, history: tuple[str, ...], word: str) -> float:
    """Back-off evaluation, as any reader of ARPA files does it."""
    if (*history, word) in arpa:
        return arpa[(*history, word)][0]
    return (arpa[history][1] if history in arpa else 0.0) + log10_p(arpa, history[1:], word)


def test_witten_bell_by_hand():
    """Two sentences, "x y" and "x": after x, y and the end were seen once each."""
    p = estimate([["x", "y"], ["x"]], 2)
    uniform = 1 / 4  # x, y, </s>, <unk>
    unigram_end = (2 + 3 * uniform) / (5 + 3)  # seen 2 times of 5, 3 types
    assert p[("</s>",)] == pytest.approx(unigram_end)
    assert p[("x", "</s>")] == pytest.approx((1 + 2 * unigram_end) / (2 + 2))
    assert p[("<unk>",)] == pytest.approx(3 * uniform / 8)
    with pytest.raises(ConfigError):
        estimate([["x"]], 0)
    with pytest.raises(DataError):
        estimate([], 2)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_written_model_sums_to_one(tmp_path, order):
    write_arpa(tmp_path / "lm.arpa", estimate([units(s, "char") for s in SENTENCES], order))
    arpa = read_arpa(tmp_path / "lm.arpa")
    words = [gram[0] for gram in arpa if len(gram) == 1 and gram != ("<s>",)]
    histories = {gram[:-1] for gram in arpa} | {("z",), ("t", "t", "t")}
    for history in histories:
        assert sum(10 ** log10_p(arpa, history, word) for word in words) == pytest.approx(1, abs=1e-4), history


def test_vocabulary_and_bad_files(tmp_path):
    write_arpa(tmp_path / "lm.arpa", estimate([s.split() for s in SENTENCES], 2))
    assert arpa_vocabulary(tmp_path / "lm.arpa") == {"<s>", "</s>", "<unk>", "a", "cat", "cab", "bad"}
    with pytest.raises(DataError, match="no such language model"):
        arpa_vocabulary(tmp_path / "none.arpa")
    (tmp_path / "binary").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0\xff\xfe")
    with pytest.raises(DataError, match="not an ARPA file"):
        arpa_vocabulary(tmp_path / "binary")


def test_command(tmp_path, capsys):
    (tmp_path / "text").write_text("".join(f"u{k} {s}\n" for k, s in enumerate(SENTENCES)))
    arguments = ["--output", str(tmp_path / "lm.arpa"), "--order", "3", "--text"]
    assert cli.main(["lm", *arguments, str(tmp_path / "text")]) == 0
    assert "5 sentences" in capsys.readouterr().out
    assert "<space>" in arpa_vocabulary(tmp_path / "lm.arpa")
    assert cli.main(["lm", *arguments, str(tmp_path / "none")]) == 1


def test_missing_flashlight_is_an_error_not_a_fallback(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight", None)
    with pytest.raises(ConfigError, match=r"tools/setup\.sh --with-lm"):
        BeamSearch(TOKENS, BeamOptions())


# --- from here on flashlight-text is needed ------------------------------------------------------------------------


@pytest.fixture
def flashlight():
    return pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")


def speak(text: str, doubt: dict[int, tuple[str, float]] | None = None) -> torch.Tensor:
    """Emissions of `text`, a frame a letter and one of blank between; at letter k of `doubt` another is more likely."""
    rows = []
    for k, token in enumerate(TokenIds(TOKENS).encode(text)):
        row = torch.full((len(TOKENS),), -8.0)
        row[token] = 0.0
        for other, advantage in [doubt[k]] if doubt and k in doubt else []:
            row[TOKENS.index(other)] = advantage
        blank = torch.full((len(TOKENS),), -8.0)
        blank[0] = 0.0
        rows += [row, blank]
    return torch.stack(rows).log_softmax(-1)


def text_of(search, emissions) -> str:
    return TokenIds(TOKENS).decode(search.finish(search.reduce(emissions[None])[0]))


def test_beam_without_a_model_sums_over_paths(flashlight):
    """Two frames in which blank is the likeliest single token, yet "a" has more probability over all its paths."""
    emissions = torch.full((2, len(TOKENS)), 1e-6)
    emissions[:, 0], emissions[:, 3] = 0.6, 0.4
    assert text_of(GreedySearch(), emissions.log()) == ""
    assert text_of(BeamSearch(TOKENS, BeamOptions()), emissions.log()) == "a"  # 0.64 against 0.36


@pytest.mark.parametrize("unit", ["char", "word"])
def test_language_model_decides_what_is_doubtful(flashlight, tmp_path, unit):
    write_arpa(tmp_path / "lm.arpa", estimate([units(s, unit) for s in SENTENCES], 3))
    emissions = speak("a cat", {4: ("b", 0.2)})  # "a cab" is a little likelier to the ear
    assert text_of(GreedySearch(), emissions) == "a cab"
    options = BeamOptions(unit=unit, lm_weight=2.0)
    assert text_of(BeamSearch(TOKENS, options, tmp_path / "lm.arpa"), emissions) == "a cat"
    options = BeamOptions(unit=unit, lm_weight=0.0)
    assert text_of(BeamSearch(TOKENS, options, tmp_path / "lm.arpa"), emissions) == "a cab"


def test_lexicon_closes_the_vocabulary(flashlight, tmp_path):
    write_arpa(tmp_path / "lm.arpa", estimate([["cat"], ["bad"], ["zoo"]], 2))
    search = BeamSearch(TOKENS, BeamOptions(unit="word", lm_weight=0.1), tmp_path / "lm.arpa")
    assert text_of(search, speak("cat cab")) == "cat cat"


def test_wrong_models_are_refused(flashlight, tmp_path):
    write_arpa(tmp_path / "words.arpa", estimate([["zoo"]], 2))
    with pytest.raises(ConfigError, match="--lm-unit word"):
        BeamSearch(TOKENS, BeamOptions(), tmp_path / "words.arpa")
    with pytest.raises(ConfigError, match="can be spelled"):
        BeamSearch(TOKENS, BeamOptions(unit="word"), tmp_path / "words.arpa")
    with pytest.raises(ConfigError, match="needs a language model"):
        BeamSearch(TOKENS, BeamOptions(unit="word"))
    with pytest.raises(ConfigError, match="<space>"):
        BeamSearch([BLANK, "<unk>", "a", SOS_EOS], BeamOptions())
    with pytest.raises(ConfigError, match="known: char, word"):
        BeamOptions(unit="phone")
    assert math.isfinite(BeamOptions().lm_weight)
