"""When words were said: from tokens with times to words with times.

A word begins with a blank; where a language writes none, every group of characters is one that the vocabulary does not
divide within a character. Punctuation stands with a word beside it and does not count in its times: a full stop is
where the decoder waits until somebody speaks again. For the same reason words end, and begin, where a pause does.
"""

from __future__ import annotations

import codecs
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.data.loudness import FRAME, loud_frames, quiet_stretches
from s3router.data.words import Word

if TYPE_CHECKING:
    from transformers import WhisperTokenizer

PAUSE: Seconds = 0.15
"""The shortest silence that belongs to no word: longer than those before p, t and k."""
_OPENING = frozenset("¿¡")  # besides Unicode's categories of opening brackets and quotes


@dataclass(frozen=True)
class _Part:
    """Tokens that are whole characters together; ``first`` to ``last``, that one not included."""

    text: str
    first: int
    last: int

    @property
    def spoken(self) -> bool:
        """Whether it has a letter, a digit, or an accent or vowel written onto one."""
        return any(unicodedata.category(character)[0] in "LNM" for character in self.text)


def timed_words(
    tokenizer: WhisperTokenizer,
    tokens: Sequence[int],
    scores: Sequence[float],
    times: Sequence[Seconds],
    spaced: bool = True,
) -> list[Word]:
    """The words of a text in their order; joined (`s3router.data.words.joined`) they are it.

    Args:
        tokens: ids of its tokens; special ones are not written.
        scores: log probability of each.
        times: when each begins, and when the last ends (`s3router.seq2seq.token_times.token_times`).
        spaced: blanks part the words.
    """
    found, before = [], " "
    for parts in _words(_parts(tokenizer, tokens), spaced):
        text = "".join(part.text for part in parts)
        if not text.strip():
            continue
        spoken = [part for part in parts if part.spoken] or parts
        first, last = spoken[0].first, spoken[-1].last
        probability = math.exp(sum(scores[first:last]) / (last - first))
        parted = before[-1].isspace() or text[0].isspace()
        found.append(Word(" ".join(text.split()), times[first], times[last], probability, parted))
        before = text
    return found


def outside_pauses(words: Iterable[Word], wave: np.ndarray) -> list[Word]:
    """The same words; one that begins or ends in a pause does so where somebody speaks.

    Args:
        wave: float (samples,) at 16 kHz, in which the words are.
    """
    loud = loud_frames(wave)
    frame = FRAME / SAMPLE_RATE
    pauses = [(a * frame, b * frame if b < len(loud) else math.inf) for a, b in quiet_stretches(loud, PAUSE)]
    found = []
    for word in words:
        start, end = word.start, word.end
        for begin, stop in pauses:
            if begin <= start and end <= stop:  # nobody is heard in it, so nothing is known better
                continue
            if begin <= start < stop:
                start = stop
            if begin < end <= stop:
                end = begin
        found.append(replace(word, start=start, end=end))
    return found


def _parts(tokenizer: WhisperTokenizer, tokens: Sequence[int]) -> Iterator[_Part]:
    """Tokens with text, as few in each part as make whole characters; broken ones become U+FFFD as in the text."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    special = set(tokenizer.added_tokens_decoder)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, first, last = "", 0, 0
    for number, (token, written) in enumerate(zip(tokens, tokenizer.convert_ids_to_tokens(list(tokens)), strict=True)):
        if written is None or token in special:  # a time, or a special one
            continue
        if not text and not decoder.getstate()[0]:
            first = number
        text += decoder.decode(bytes(byte_of[character] for character in written))
        last = number + 1
        if not decoder.getstate()[0]:
            yield _Part(text, first, last)
            text = ""
    if text := text + decoder.decode(b"", True):
        yield _Part(text, first, last)


def _words(parts: Iterable[_Part], spaced: bool) -> list[list[_Part]]:
    """The parts of each word."""
    pieces: list[list[_Part]] = []
    for part in parts:
        if pieces and spaced and not part.text[:1].isspace():
            pieces[-1].append(part)
        else:
            pieces.append([part])
    words: list[list[_Part]] = []
    opened: list[_Part] = []  # blanks, brackets and the like, for the next word
    for piece in pieces:
        text = "".join(part.text for part in piece).strip()
        if any(part.spoken for part in piece) and not _is_mark(text):
            words.append(opened + piece)
            opened = []
        elif not text or _opens(text) or opened or not words:
            opened += piece
        else:
            words[-1] += piece
    if opened:
        words = [*words[:-1], [*words[-1], *opened]] if words else [opened]
    return words


def _is_mark(text: str) -> bool:
    """Whether it begins with an accent, tone or vowel that is written onto the character before it."""
    return unicodedata.category(text[0])[0] == "M"


def _opens(text: str) -> bool:
    return unicodedata.category(text[-1]) in ("Ps", "Pi") or text[-1] in _OPENING
