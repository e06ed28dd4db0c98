"""Greedy or beam decoding of waveforms by a whole recogniser (transformers' own ``generate``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.errors import ConfigError
from s3router.seq2seq.token_times import token_times

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import Recogniser

SPARE_TOKENS = 8
"""Tokens that any utterance may have besides those that its length allows."""


@dataclass(frozen=True)
class Heard:
    """What was heard in one window.

    Attributes:
        tokens: ids of the vocabulary, special ones left out.
        text: the same as text, as the model writes it.
        confidence: mean log probability of the tokens, the end of the text included.
        limited: decoding ran on to the largest number of tokens and was cut there.
        scores: log probability of each token.
        times: where they were wanted, when each token begins, and when the last ends, from the beginning of the window.
    """

    tokens: list[int]
    text: str
    confidence: float
    limited: bool
    scores: list[float] = field(default_factory=list)
    times: list[Seconds] | None = None


def token_limit(seconds: Seconds, per_second: float, room: int) -> int:
    """How many tokens an utterance of this length may have: a decoder that runs on is stopped there.

    Args:
        per_second: the largest rate that is expected of speech.
        room: positions that the decoder has behind its prompt.
    """
    return max(1, min(room, math.ceil(seconds * per_second) + SPARE_TOKENS))


@torch.inference_mode()
def transcribe_batch(
    recogniser: Recogniser,
    waves: Sequence[Tensor],
    language: str | None,
    max_tokens_per_second: float,
    window: int,
    beam_size: int = 1,
    timed: bool = False,
) -> list[Heard]:
    """Waveforms [(samples,)], float32 at 16 kHz -> what was heard in each.

    Args:
        language: code of the language token; None for English-only models.
        max_tokens_per_second: see `token_limit`.
        window: samples; silence fills what an utterance leaves of it (`s3router.seq2seq.windows.window_of`).
        beam_size: 1: greedy.
        timed: with times of tokens, which cost another pass of the decoder.

    Raises:
        ConfigError: an unknown language, or a waveform that is longer than the window.
    """
    from transformers.generation import GenerationMixin

    model, prompt = recogniser.model, recogniser.prompt(language)
    features = window_features(recogniser, waves, window)
    encoded = model.get_encoder()(features)
    room = model.config.max_target_positions - len(prompt)
    limits = [token_limit(len(wave) / SAMPLE_RATE, max_tokens_per_second, room) for wave in waves]
    search, chosen = {"num_beams": beam_size, "output_scores": True}, _Chosen()
    if beam_size == 1:
        longest = torch.tensor(limits, device=features.device) + len(prompt)
        search = {"logits_processor": [chosen], "stopping_criteria": [_Limits(longest)]}
    found = GenerationMixin.generate(  # WhisperForConditionalGeneration's own wants windows of 30 s
        model,
        encoder_outputs=encoded,
        attention_mask=features.new_ones(len(waves), features.size(2), dtype=torch.long),  # unused; spares a warning
        decoder_input_ids=torch.tensor([prompt] * len(waves), device=features.device),
        max_new_tokens=min(max(limits) + 1, room),  # whether it would have ended there is known one token later
        do_sample=False,
        return_dict_in_generate=True,
        **search,
    )
    scores = chosen.scores()
    if beam_size > 1:
        scores = model.compute_transition_scores(
            found.sequences, found.scores, found.beam_indices, normalize_logits=True
        )
    end = model.generation_config.eos_token_id
    ends = {end} if isinstance(end, int) else set(end)
    heard = [
        _heard(recogniser, ids.tolist(), values.tolist(), limit, ends)
        for ids, values, limit in zip(found.sequences[:, len(prompt) :], scores, limits, strict=True)
    ]
    if not timed:
        return heard
    times = token_times(model, encoded[0], prompt, [one.tokens for one in heard], [len(wave) for wave in waves])
    return [replace(one, times=begins) for one, begins in zip(heard, times, strict=True)]


class _Chosen:
    """A logits processor of greedy search: log probabilities of what it chooses.

    ``generate`` would keep all scores of all steps for them: 0.2 MB for each token of each utterance.
    """

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, logits: Tensor) -> Tensor:
        self._steps.append(logits.amax(-1) - logits.logsumexp(-1))
        return logits

    def scores(self) -> Tensor:
        """(batch, steps)."""
        return torch.stack(self._steps, 1) if self._steps else torch.empty(0)


class _Limits:
    """A stopping criterion: each utterance ends one token after its own limit, not at the batch's longest one."""

    def __init__(self, longest: Tensor):
        self._longest = longest

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        return self._longest < input_ids.size(1)


def window_features(recogniser: Recogniser, waves: Sequence[Tensor], window: int) -> Tensor:
    """Waveforms, each with silence up to ``window`` samples -> log-mel spectrograms (batch, bins, frames)."""
    if max(len(wave) for wave in waves) > window:
        raise ConfigError(
            f"a waveform of {max(map(len, waves))} samples does not fit a window of {window}; cut it first"
        )
    return torch.stack([recogniser.log_mel(F.pad(wave, (0, window - len(wave)))) for wave in waves])


def _heard(recogniser: Recogniser, ids: list[int], scores: list[float], limit: int, ends: set[int]) -> Heard:
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    ended = stop is not None and stop <= limit
    kept = ids[:stop] if ended else ids[:limit]
    counted = scores[: stop + 1] if ended else scores[:limit]
    text = recogniser.tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Heard(kept, text, sum(counted) / len(counted), not ended, scores[: len(kept)])
