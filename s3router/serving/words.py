"""When words were said: from the best path of CTC to words with times.

Greedy decoding needs no search for an alignment. Of all alignments of its text the best path is the most probable: it
is the most probable of all paths whatsoever. So a word lasts from the first frame of its first token to the last of its
last. CTC's tokens are spikes, so words seem shorter than they are spoken, by some frames at either end.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterator

from torch import Tensor

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.tokens import BLANK, SOS_EOS, SPACE, TokenIds
from s3router.data.words import Word

_WORD_BEGINS = "▁"  # sentencepiece's mark


def timed_words(
    path: Tensor, tokens: TokenIds, stride: int, seconds: Seconds = math.inf, spaced: bool = True
) -> list[Word]:
    """The words of `Hypothesis.path` in their order; joined (`s3router.data.words.joined`) they are the text.

    Args:
        path: (frames, 2): the best token's id of each frame, and its log probability.
        tokens: what the ids stand for.
        stride: samples from one frame to the next.
        seconds: length of the recording, behind which its last frame may end.
        spaced: blanks part the words; False: each token is a word, with the marks that are written onto it.
    """
    found = []
    for parted, runs in _words_of(path, tokens, spaced):
        text = " ".join(tokens.decode(token for token, _, _ in runs).split())
        if text:  # none of a token such as <sos/eos> alone
            logs = [value for _, _, values in runs for value in values]
            start, last = runs[0][1], runs[-1][1] + len(runs[-1][2])
            times = (min(frame * stride / SAMPLE_RATE, seconds) for frame in (start, last))
            found.append(Word(text, *times, math.exp(sum(logs) / len(logs)), parted))
    return found


_Run = tuple[int, int, list[float]]  # token, first frame, log probability of each frame


def _words_of(path: Tensor, tokens: TokenIds, spaced: bool) -> Iterator[tuple[bool, list[_Run]]]:
    """(whether a blank parts it from what is before, its tokens) of each word."""
    word: list[_Run] = []
    parted = blank = True
    for run in _runs(path):
        token = tokens.tokens[run[0]]
        if token in (BLANK, SOS_EOS):
            continue
        after_blank = tokens.token_type == "phn" or token == SPACE or token.startswith(_WORD_BEGINS)
        blank = blank or after_blank
        if word and (after_blank or not (spaced or _is_mark(token))):
            yield parted, word
            word = []
        if (token == SPACE and tokens.token_type == "char") or (token == _WORD_BEGINS and not spaced):
            continue
        if not word:
            parted, blank = blank, False
        word.append(run)
    if word:
        yield parted, word


def _is_mark(token: str) -> bool:
    """Whether it begins with an accent, tone or vowel that is written onto the character before it."""
    return unicodedata.category(token[0])[0] == "M"


def _runs(path: Tensor) -> Iterator[_Run]:
    ids, values = (column.tolist() for column in path.double().unbind(-1))
    frame = 0
    for token, group in itertools.groupby(ids):
        length = len(list(group))
        yield int(token), frame, values[frame : frame + length]
        frame += length
