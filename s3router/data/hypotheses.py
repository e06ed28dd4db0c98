"""Hypotheses of recognisers that write ordinary text, brought to the form of a corpus's references.

Whisper writes capitals, punctuation and digits; references here are words of lower-case letters. References are
normalised strictly, and what has no single reading is left out of a corpus. A hypothesis cannot be left out: digits are
spoken out where the language is known, and what is still refused goes through the general rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from s3router.data import languages, text
from s3router.errors import DataError

RULES = ("none", "prompts", "sentences")
"""``prompts``: `s3router.data.text`; ``sentences``: `s3router.data.languages`; ``none``: blanks alone are settled."""


def tidy(hypothesis: str, rules: str, lang: str) -> str:
    """A hypothesis in the form of references.

    Args:
        rules: one of `RULES`; ``prompts`` for a language that those have no rules for are ``sentences``.
        lang: the references' language, as their normalisation knows it.
    """
    if rules == "none" or not hypothesis.strip():
        return " ".join(hypothesis.split())
    normalize: Callable[[str, str], str] = languages.normalize
    if rules == "prompts" and lang in text.ALPHABETS:
        normalize = text.normalize
    hypothesis = _spoken_out(hypothesis, lang)
    try:
        return normalize(hypothesis, lang)
    except DataError:
        pass
    general = unicodedata.normalize("NFKC", hypothesis).lower().replace("’", "'")
    general = " ".join("".join(c if languages.is_letter(c) or c == "'" else " " for c in general).split())
    try:
        return normalize(general, lang)
    except DataError:  # letters of another script: they are errors, and stay
        return general


def _spoken_out(hypothesis: str, lang: str) -> str:
    if not any(c.isdigit() for c in hypothesis):
        return hypothesis
    from num2words import num2words

    def words(match: re.Match) -> str:
        digits = match.group()
        if len(digits) > (4 if lang == "am" else text.MOST_DIGITS):  # Amharic's words of larger numbers do not end
            return digits
        return f" {num2words(int(digits), lang=lang)} "

    try:
        return re.sub(r"\d+", words, hypothesis)
    except Exception:  # languages and numbers that it has no words for end in errors of all kinds
        return hypothesis
