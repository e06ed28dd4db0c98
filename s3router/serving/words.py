"""When words were said: from the best path of CTC to words with times.

Greedy decoding needs no search for an alignment. Of all alignments of its text the best path is the most probable: it
is the most probable of all paths whatsoever. So a word lasts from the first frame of its first token to the last of its
last. CTC's tokens are spikes, so words seem shorter than they are spoken, by some frames at either end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from torch import Tensor

from s3router.data.audio import SAMPLE_RATE
from s3router.data.tokens import BLANK, SOS_EOS, SPACE, TokenIds
from s3router.data.words import Word

_WORD_BEGINS = "▁"  # sentencepiece's mark


def timed_words(path: Tensor, tokens: TokenIds, stride: int) -> list[Word]:
    """The words of `Hypothesis.path` in their order; joined by blanks they are the text.

    Args:
        path: (frames, 2): the best token's id of each frame, and its log probability.
        tokens: what the ids stand for.
        stride: samples from one frame to the next.
    """
    found = []
    for runs in _words_of(path, tokens):
        text = " ".join(tokens.decode(token for token, _, _ in runs).split())
        if text:  # none of a token such as <sos/eos> alone
            logs = [value for _, _, values in runs for value in values]
            start, last = runs[0][1], runs[-1][1] + len(runs[-1][2])
            times = start * stride / SAMPLE_RATE, last * stride / SAMPLE_RATE
            found.append(Word(text, *times, math.exp(sum(logs) / len(logs))))
    return found


_Run = tuple[int, int, list[float]]  # token, first frame, log probability of each frame


def _words_of(path: Tensor, tokens: TokenIds) -> Iterator[list[_Run]]:
    word: list[_Run] = []
    for run in _runs(path):
        token = tokens.tokens[run[0]]
        if token in (BLANK, SOS_EOS):
            continue
        begins = tokens.token_type == "phn" or token == SPACE or token.startswith(_WORD_BEGINS)
        if word and begins:
            yield word
            word = []
        if token != SPACE or tokens.token_type != "char":
            word.append(run)
    if word:
        yield word


def _runs(path: Tensor) -> Iterator[_Run]:
    ids, values = (column.tolist() for column in path.double().unbind(-1))
    frame = 0
    for token, group in itertools.groupby(ids):
        length = len(list(group))
        yield int(token), frame, values[frame : frame + length]
        frame += length
