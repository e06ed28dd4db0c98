"""The language token for a language that Whisper lacks: the one under which its transcripts are likeliest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from s3router.seq2seq.utterances import Examples

if TYPE_CHECKING:
    from s3router.data.kaldi import Utterance
    from s3router.upstreams.whisper_recogniser import Recogniser

logger = logging.getLogger(__name__)

AUTO = "auto"
UTTERANCES = 8
"""That are listened to. Each is encoded once, and decoded under every language."""
_BATCH = 4


@torch.inference_mode()
def choose_language(recogniser: Recogniser, utts: Sequence[Utterance]) -> dict[str, float]:
    """Language -> the loss of the transcripts under its token, per token, before any training; the likeliest first.

    Args:
        recogniser: multilingual.
        utts: of a development set; the first `UTTERANCES` are taken.
    """
    model, utts = recogniser.model, list(utts)[:UTTERANCES]
    losses = dict.fromkeys(recogniser.languages, 0.0)
    for start in range(0, len(utts), _BATCH):
        examples = Examples(utts[start : start + _BATCH], recogniser, recogniser.prompt(recogniser.languages[0]))
        batch = examples.batch([examples[index] for index in range(len(examples))])
        device = next(model.parameters()).device
        encoded = model.get_encoder()(batch["input_features"].to(device))
        labels, tokens = batch["labels"].to(device), batch["decoder_input_ids"].to(device)
        for language in losses:
            tokens[:, 1] = recogniser.prompt(language)[1]
            losses[language] += float(model(encoder_outputs=encoded, decoder_input_ids=tokens, labels=labels).loss)
    batches = -(-len(utts) // _BATCH)
    ranked = dict(sorted(((name, total / batches) for name, total in losses.items()), key=lambda item: item[1]))
    best = ", ".join(f"{name} {loss:.2f}" for name, loss in list(ranked.items())[:5])
    logger.info("language tokens by the loss of %d transcripts, the likeliest first: %s", len(utts), best)
    return ranked
