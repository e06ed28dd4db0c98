"""The likeliest language token: a mean over tokens, whatever the batches."""

from __future__ import annotations

import math

from s3router.seq2seq.language import losses
from s3router.seq2seq.utterances import encode, read_utterances
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.seq2seq.conftest import FIVE


def test_losses_are_means_over_tokens_of_all_batches(whisper_folder):
    recogniser = load_recogniser("auto", str(whisper_folder))
    recogniser.model.eval()
    utts, _ = read_utterances(FIVE, recogniser, recogniser.prompt("fr"))
    assert len(utts) == 5  # a batch of four and one of one
    found = losses(recogniser, utts, ["fr", "it", "yo"])
    assert list(found.values()) == sorted(found.values())
    for language, value in found.items():
        total, count = 0.0, 0
        for utt in utts:
            tokens = len(encode(recogniser, utt.text)) + 1  # and the end
            total += losses(recogniser, [utt], [language])[language] * tokens
            count += tokens
        assert math.isclose(value, total / count, rel_tol=1e-5)
