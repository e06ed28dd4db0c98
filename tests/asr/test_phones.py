"""Models that write phones: their error rate is the PER, in validation, in its lines, and in what decoding leaves."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from s3router.asr.decode_output import Transcripts, write_output
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.tokens import TokenIds, build_token_list
from s3router.scoring.error_counts import ErrorCounts
from s3router.training.progress import Progress, announce

REFERENCE, HYPOTHESIS = "tʃ aː ɕ u", "tʃ a ɕ u k"  # one of four phones wrong, one too many


def test_phones_are_the_characters_of_validation():
    counts = ErrorCounts()
    counts.add(HYPOTHESIS, REFERENCE, phones=True)
    assert (counts.char_errors, counts.chars) == (2, 4)
    assert counts.cer == counts.wer == 0.5
    counts.add(HYPOTHESIS, REFERENCE)
    assert counts.chars == 4 + len(REFERENCE)


@pytest.mark.parametrize(("rate", "expected"), [("PER", "PER 50.00 %  (best so far)"), ("CER", "CER 50.00 %  WER 50")])
def test_the_line_of_a_validation_names_the_rate(rate: str, expected: str, caplog):
    counts, progress = ErrorCounts(), Progress(10)
    counts.add(HYPOTHESIS, REFERENCE, phones=True)
    progress.rate = rate
    with caplog.at_level(logging.INFO):
        announce(progress, 1.0, counts)
    assert expected in caplog.text


def test_decoding_leaves_a_per(tmp_path: Path):
    data = DataDir(tmp_path, [Utterance("a", "a.wav", REFERENCE, "s", 1.0)])
    found = Transcripts({"a": HYPOTHESIS}, {"a": 49}, [], 1.0, 0.1)
    tokens = TokenIds(build_token_list([REFERENCE, HYPOTHESIS], "phn"), "phn")
    write_output(tmp_path / "out", data, found, tokens, {})
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["per"] == 0.5
    letters = TokenIds(build_token_list([REFERENCE, HYPOTHESIS]))
    assert "per" not in write_output(tmp_path / "letters", data, found, letters, {})
