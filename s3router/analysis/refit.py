"""Heads that are fitted anew on hidden states that stay as they are: computed once, kept in bfloat16, a linear CTC head
trained on them. Minutes of speech take seconds.

The head is the one that `s3router train` trains with ``normalize_features``: layer norm of each hidden state, their
weighted sum, one linear layer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.analysis.representation import Resident, batches
from s3router.asr.ctc_decode import collapse, plan_batches
from s3router.data.audio import Seconds, read_audio
from s3router.data.kaldi import Utterance
from s3router.data.tokens import TokenIds, min_ctc_frames
from s3router.errors import ConfigError, DataError
from s3router.scoring.wer import score


@dataclass(frozen=True)
class HeadOptions:
    """How a head is fitted.

    Attributes:
        updates: optimizer steps.
        batch_seconds: padded length of a batch, as of `s3router train`.
        head_lr: learning rate, Adam with betas 0.9 and 0.98, constant after the warm-up.
        warmup: updates in which it rises from 0.
        checks: how often dev is decoded, at equal distances, the last time at the end; the best head is kept.
        dropout: on the weighted sum.
        clip: norm that gradients are clipped to.

    Raises:
        ConfigError: a value out of its range.
    """

    updates: int = 300
    batch_seconds: Seconds = 16.0
    head_lr: float = 5e-3
    warmup: int = 20
    checks: int = 5
    dropout: float = 0.1
    clip: float = 5.0

    def __post_init__(self) -> None:
        problems = []
        for name, least in (("updates", 1), ("warmup", 0), ("checks", 1)):
            if getattr(self, name) < least:
                problems.append(f"{name} {getattr(self, name)}: at least {least} is needed")
        for name in ("batch_seconds", "head_lr", "clip"):
            if not getattr(self, name) > 0:
                problems.append(f"{name} {getattr(self, name)} is not above 0")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout {self.dropout} is not a share from 0 up to 1")
        if problems:
            raise ConfigError("; ".join(problems))


@torch.no_grad()
def hidden_states(
    resident: Resident, label: str, utts: Sequence[Utterance], arithmetic: str = "float32"
) -> dict[str, Tensor]:
    """The hidden states of recordings under one route, each normalised over its channels.

    Args:
        label: a route of `resident`, or `s3router.analysis.representation.FROZEN`.
        utts: with durations; at other rates than 16 kHz they are resampled.
        arithmetic: ``bfloat16`` to run the upstream under autocast.

    Returns:
        by utterance (layers, frames, C), bfloat16.

    Raises:
        DataError: a recording cannot be read.
    """
    found: dict[str, Tensor] = {}
    device = torch.device(resident.device).type
    for batch in batches(utts):
        waves = [torch.from_numpy(read_audio(utt.source)) for utt in batch]
        with torch.autocast(device, torch.bfloat16, enabled=arithmetic == "bfloat16"):
            [states] = resident.hidden(waves, [label])
        normalised = torch.stack([F.layer_norm(state.float(), state.shape[-1:]).bfloat16() for state in states])
        frames = resident.frames(waves, normalised.size(1) // len(waves))
        parts = normalised.split(frames, 1)
        found |= {utt.utt: part.clone() for utt, part in zip(batch, parts, strict=True)}
    return found


class LinearHead(nn.Module):
    """Weighted sum of hidden states, and a linear layer.

    The linear layer begins at zero, where all tokens are equally likely. From random weights some heads never leave the
    state in which they write next to nothing (of eight seeds in Yoruba two or three), whatever the hidden states allow.

    Attributes:
        layer_weights: (layers,); their softmax weighs.
    """

    def __init__(self, layers: int, width: int, tokens: int, dropout: float = 0.0):
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.output = nn.Linear(width, tokens)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.dropout = dropout

    def forward(self, states: Tensor) -> Tensor:
        """(layers, frames, C), normalised, any float dtype -> (frames, tokens), log probabilities, float32."""
        layers, frames, width = states.shape
        mixed = (self.layer_weights.softmax(0) @ states.float().reshape(layers, -1)).view(frames, width)
        return F.log_softmax(self.output(F.dropout(mixed, self.dropout, self.training)), -1)


@dataclass(frozen=True)
class Fitted:
    """A head.

    Attributes:
        head: the best on dev, in evaluation mode.
        dev: its character error rate there, a share.
        update: after which it was best.
    """

    head: LinearHead
    dev: float
    update: int


def fit_head(
    train: tuple[Mapping[str, Tensor], Sequence[Utterance]],
    dev: tuple[Mapping[str, Tensor], Sequence[Utterance]],
    tokens: TokenIds,
    options: HeadOptions,
    seed: int = 0,
) -> Fitted:
    """Train a head, and keep the best on dev.

    Args:
        train: hidden states as of `hidden_states`, and the utterances with their texts. Those with more tokens than
            frames are left out.
        dev: the same.
        seed: of the batches and dropout.

    Raises:
        DataError: a text has tokens that are not in the list, or no utterance can be learnt from.
    """
    states, utts = train
    texts = {utt.utt: torch.tensor(tokens.encode(utt.text)) for utt in utts}
    utts = [utt for utt in utts if min_ctc_frames(texts[utt.utt].tolist()) <= states[utt.utt].size(1)]
    if not utts:
        raise DataError("no utterance has as many frames as tokens, so there is nothing to learn from; check the texts")
    planned = plan_batches([utt.duration for utt in utts], options.batch_seconds)
    order = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, _, width = states[utts[0].utt].shape
        head = LinearHead(layers, width, len(tokens), options.dropout)
        optimizer = torch.optim.Adam(head.parameters(), lr=options.head_lr, betas=(0.9, 0.98))
        checked = {round(options.updates * n / options.checks) for n in range(1, options.checks + 1)}
        best: tuple[float, int, dict[str, Tensor]] | None = None
        update = 0
        while update < options.updates:
            order.shuffle(planned)
            for batch in planned[: options.updates - update]:
                update += 1
                for group in optimizer.param_groups:
                    group["lr"] = options.head_lr * min(1.0, update / max(1, options.warmup))
                chosen = [utts[n].utt for n in batch]
                _step(head, optimizer, [states[utt] for utt in chosen], [texts[utt] for utt in chosen], options)
                if update in checked:
                    rate = error_rate(head, *dev, tokens)
                    if best is None or rate < best[0]:
                        best = rate, update, {name: value.clone() for name, value in head.state_dict().items()}
    rate, update, state = best
    head.load_state_dict(state)
    return Fitted(head.eval(), rate, update)


def _step(
    head: LinearHead, optimizer: torch.optim.Optimizer, states: list[Tensor], texts: list[Tensor], options: HeadOptions
) -> None:
    """One update on a batch: the sum of CTC losses over its size, as `s3router train` has it."""
    head.train()
    lengths = [state.size(1) for state in states]
    rows = head(torch.cat(states, 1)).split(lengths)
    log_probs = nn.utils.rnn.pad_sequence(list(rows))  # (frames, batch, tokens)
    sizes = torch.tensor([len(text) for text in texts])
    losses = F.ctc_loss(log_probs, torch.cat(texts), torch.tensor(lengths), sizes, reduction="none", zero_infinity=True)
    optimizer.zero_grad()
    (losses.sum() / len(texts)).backward()
    nn.utils.clip_grad_norm_(head.parameters(), options.clip)
    optimizer.step()


@torch.inference_mode()
def error_rate(head: LinearHead, states: Mapping[str, Tensor], utts: Sequence[Utterance], tokens: TokenIds) -> float:
    """The character error rate of greedy decoding, a share."""
    head.eval()
    found = {utt.utt: tokens.decode(collapse(head(states[utt.utt]).argmax(-1).tolist())) for utt in utts}
    return score({utt.utt: utt.text for utt in utts}, found).cer
