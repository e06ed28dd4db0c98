"""The language token for a language that Whisper lacks: the one under which its transcripts are likeliest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from s3router.seq2seq.utterances import IGNORED, Examples

if TYPE_CHECKING:
    from s3router.data.kaldi import Utterance
    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)

AUTO = "auto"
FIRST, THEN = 2, 12
"""Utterances under every language, and under the likeliest ones."""
CANDIDATES = 10
"""Of the second look."""
_BATCH = 4


def choose_language(recogniser: Recogniser, utts: Sequence[Utterance]) -> dict[str, float]:
    """Language -> the loss of the transcripts under its token, per token, before any training; the likeliest first.

    All languages are tried on the first `FIRST` utterances, and the likeliest of them on the first `THEN`.

    Args:
        recogniser: multilingual.
        utts: of a development set.
    """
    first = losses(recogniser, utts[:FIRST], recogniser.languages)
    found = losses(recogniser, utts[:THEN], tuple(first)[:CANDIDATES])
    best = ", ".join(f"{name} {loss:.2f}" for name, loss in list(found.items())[:5])
    logger.info("language tokens by the loss of transcripts, the likeliest first: %s", best)
    return found


@torch.inference_mode()
def losses(recogniser: Recogniser, utts: Sequence[Utterance], languages: Sequence[str]) -> dict[str, float]:
    """Language -> mean loss of the transcripts' tokens under it, the lowest first. Utterances are encoded once."""
    model = recogniser.model
    device = next(model.parameters()).device
    totals, count = dict.fromkeys(languages, 0.0), 0
    for start in range(0, len(utts), _BATCH):
        part = utts[start : start + _BATCH]
        examples = Examples(part, recogniser, recogniser.prompt(languages[0]))
        batch = examples.batch([examples[index] for index in range(len(examples))])
        encoded = model.get_encoder()(batch["input_features"].to(device))
        labels, tokens = batch["labels"].to(device), batch["decoder_input_ids"].to(device)
        targets = int((labels != IGNORED).sum())
        count += targets
        for language in languages:
            tokens[:, 1] = recogniser.prompt(language)[1]
            loss = model(encoder_outputs=encoded, decoder_input_ids=tokens, labels=labels).loss
            totals[language] += float(loss) * targets
    return dict(sorted(((name, total / count) for name, total in totals.items()), key=lambda item: item[1]))
