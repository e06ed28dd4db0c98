"""What a word with times is, whichever kind of recogniser it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from s3router.data.audio import Seconds

UNSPACED = frozenset(("zh", "yue", "ja", "th", "lo", "my"))
"""Codes of languages that are written without blanks between words."""


@dataclass(frozen=True)
class Word:
    """One word, or one phone where the tokens are phones.

    Attributes:
        word: as it stands in the text.
        start, end: from the beginning of the recording.
        probability: geometric mean of the probabilities of its tokens (by CTC over all their frames).
        spaced: whether a blank parts it from the word before it, which it does not in Chinese, Thai and the like.
    """

    word: str
    start: Seconds
    end: Seconds
    probability: float
    spaced: bool = True


def joined(words: Iterable[Word]) -> str:
    """Words as a line of text."""
    return "".join(f" {word.word}" if word.spaced else word.word for word in words).strip()
