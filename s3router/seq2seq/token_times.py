"""When tokens were said: from the attention of Whisper's decoder, by dynamic time warping.

Some heads of the decoder's attention to the encoder follow the speech: writing a token, they look where it is said. As
OpenAI's code finds the times of words (github.com/openai/whisper, whisper/timing.py; the method came after the paper,
arXiv 2212.04356): the weights of these heads are standardised over the tokens, smoothed over the frames by a median,
and averaged. The tokens lie along the path of largest weights through all frames.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.upstreams.whisper import FRAME

if TYPE_CHECKING:
    from s3router.upstreams.whisper_recogniser import WhisperRecogniser

_MEDIAN = 7  # frames
_LEAST_DEVIATION = 1e-9  # a head that sees no difference between the tokens says nothing; it is not divided by zero


@torch.inference_mode()
def token_times(
    model: WhisperRecogniser,
    encoded: Tensor,
    prompt: Sequence[int],
    tokens: Sequence[Sequence[int]],
    samples: Sequence[int],
) -> list[list[Seconds]]:
    """When each token of some texts begins, in one pass of the decoder, and when the last one ends.

    A row of the attention belongs to the token that is written next, so there is one more of them than tokens: the
    last is of the end of the text. The first token begins at 0, whatever precedes the speech.

    Args:
        encoded: the encoder's output, (batch, frames, width).
        prompt: ids of the tokens before the text.
        tokens: ids of each text's tokens.
        samples: of the utterances at 16 kHz, without the silence that fills their windows.

    Returns:
        For each text seconds from the beginning of its window, one more than it has tokens, none less than the last.
    """
    heads = alignment_heads(model)
    longest = max(map(len, tokens))
    ids = [[*prompt, *text, *[prompt[0]] * (longest - len(text))] for text in tokens]  # what follows a text is not seen
    attention = {layer: model.model.decoder.layers[layer].encoder_attn for layer in sorted({at for at, _ in heads})}
    modules = [module for each in attention.values() for module in (each.q_proj, each.k_proj)]
    with _outputs(modules) as outputs:
        model.model.decoder(torch.tensor(ids, device=encoded.device), encoder_hidden_states=encoded, use_cache=False)
    found = []
    for number, (text, length) in enumerate(zip(tokens, samples, strict=True)):
        rows, frames = len(prompt) + len(text), math.ceil(length / FRAME)
        weights = []
        for layer, head in heads:
            each = attention[layer]
            place = slice(head * each.head_dim, (head + 1) * each.head_dim)
            query = outputs[each.q_proj][number, :rows, place].double() * each.scaling
            key = outputs[each.k_proj][number, :frames, place].double()
            weights.append((query @ key.T).softmax(-1))  # over the frames of the utterance alone
        begins = align(torch.stack(weights), len(prompt) - 1)
        found.append([frame * FRAME / SAMPLE_RATE for frame in begins.tolist()])
    return found


def alignment_heads(model: WhisperRecogniser) -> list[tuple[int, int]]:
    """(layer, head) of the decoder's attention to the encoder that follow the speech, counted from 0.

    Published checkpoints name them (``alignment_heads``). Where there are none, or the decoder lacks some of them as
    distilled ones do, all heads of the upper half of the layers are taken, as OpenAI's code does.
    """
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    given = getattr(model.generation_config, "alignment_heads", None) or ()
    if given and all(layer < layers and head < heads for layer, head in given):
        return [(layer, head) for layer, head in given]
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


def align(weights: Tensor, first: int = 0) -> np.ndarray:
    """The frame at which each token begins.

    Args:
        weights: attention, float64 (heads, tokens, frames).
        first: the first token that is aligned; those before it count in the standardisation alone.

    Returns:
        int64 (tokens - first,), the first of them 0.
    """
    deviation = weights.std(1, keepdim=True, correction=0).clamp_min(_LEAST_DEVIATION)
    weights = (weights - weights.mean(1, keepdim=True)) / deviation
    if weights.size(2) > _MEDIAN // 2:
        padded = F.pad(weights, (_MEDIAN // 2, _MEDIAN // 2), mode="reflect")
        weights = padded.unfold(2, _MEDIAN, 1).median(-1).values
    rows, frames = warp(-weights.mean(0)[first:].cpu().numpy())
    return frames[np.flatnonzero(np.diff(rows, prepend=-1))]


def warp(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping: the cheapest path from the first to the last cell of a matrix.

    A step goes to the next row, the next column, or both; among equals the one that goes to both, then to the next row.

    Args:
        cost: float (rows, columns), one of each at least.

    Returns:
        Row and column of each cell of the path, int64 (cells,) each.
    """
    rows, columns = cost.shape
    down, right = np.indices(cost.shape)
    diagonals = np.full((rows + columns - 1, rows), np.inf)  # [d, i] is cell (i, d - i)
    diagonals[down + right, down] = cost
    total = np.full((rows + columns + 1, rows + 1), np.inf)  # [d + 2, i + 1]: of the cheapest path to there
    total[0, 0] = 0  # above and left of the first cell
    for d, values in enumerate(diagonals):
        before = np.minimum(total[d, :-1], np.minimum(total[d + 1, :-1], total[d + 1, 1:]))
        total[d + 2, 1:] = before + values
    i, j = rows - 1, columns - 1
    path = [(i, j)]
    while i or j:
        d = i + j
        both, below, beside = total[d, i], total[d + 1, i], total[d + 1, i + 1]
        i, j = (i - 1, j - 1) if both <= min(below, beside) else (i - 1, j) if below <= beside else (i, j - 1)
        path.append((i, j))
    return tuple(np.array(path[::-1]).T)


@contextlib.contextmanager
def _outputs(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What modules put out while it is open, filled as they do."""
    kept: dict[nn.Module, Tensor] = {}
    hooks = [module.register_forward_hook(lambda of, _, output: kept.update({of: output})) for module in modules]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
