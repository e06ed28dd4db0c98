"""Hypotheses of recognisers that write ordinary text, brought to the form of a corpus's references.

Whisper writes capitals, punctuation and digits; references here are words of lower-case letters. References are
normalised strictly, and what has no single reading is left out of a corpus. A hypothesis cannot be left out: numbers
are spoken out where the language is known, as they are read most often, and what is still refused goes through the
general rules.
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


_NUMBER = re.compile(r"\d+(?:[.,\u00a0\u202f]\d+| \d{3}(?!\d))*")
_ORDINAL = {
    "en": re.compile(r"(?:st|nd|rd|th)\b", re.IGNORECASE),
    "es": re.compile(r"\.?[ºª°]"),
    "fr": re.compile(r"(?:ers?|res?|ères?|nde?s?|i?èmes?|es?)\b", re.IGNORECASE),
    "it": re.compile(r"[ºª°]"),
    "pt": re.compile(r"\.?[ºª°]"),
    "ru": re.compile(r"-?(?:ый|ой|й)\b", re.IGNORECASE),
}
"""What makes an ordinal of the number before it."""
_PERCENT = {
    "de": "prozent",
    "en": "percent",
    "es": "por ciento",
    "fr": "pour cent",
    "it": "per cento",
    "nl": "procent",
    "pt": "por cento",
    "ru": "процентов",
}
_SIGN = re.compile(r"\s?%")
_COMMA_THOUSANDS = ("en", "he", "hi", "ja", "ko", "th", "zh")
"""Languages that part thousands by commas; others do it by points, and these also by spaces."""
_SPACED_THOUSANDS = ("cs", "fi", "fr", "nb", "no", "pl", "ru", "sv", "uk")


def _spoken_out(hypothesis: str, lang: str) -> str:
    if not any(c.isdigit() for c in hypothesis):
        return hypothesis
    read, position = [], 0
    for match in _NUMBER.finditer(hypothesis):
        end = match.end()
        digits = _value(match.group(), lang)
        ordinal = _ORDINAL[lang].match(hypothesis, end) if lang in _ORDINAL and digits.isdigit() else None
        if ordinal:
            words, end = _read(digits, lang, to="ordinal"), ordinal.end()
        else:
            words = " ".join(_read(part, lang) for part in digits.split())
        if lang in _PERCENT and (sign := _SIGN.match(hypothesis, end)):
            words, end = f"{words} {_PERCENT[lang]}", sign.end()
        read.append(f"{hypothesis[position : match.start()]} {words} ")
        position = end
    return "".join(read) + hypothesis[position:]


def _read(number: str, lang: str, to: str = "cardinal") -> str:
    from num2words import num2words  # heavy, and needed where there are digits alone

    if len(number) > (4 if lang == "am" else text.MOST_DIGITS):  # Amharic's words of larger numbers do not end
        return number
    try:
        if number[0] == "0" and number.isdigit():  # 007 is read digit by digit
            return " ".join(num2words(int(digit), lang=lang) for digit in number)
        return num2words(float(number) if "." in number else int(number), lang=lang, to=to)
    except Exception:  # languages and numbers that it has no words for end in errors of all kinds
        return number


def _value(number: str, lang: str) -> str:
    """A number as it is written -> its digits, with a point before decimals; several where it is no single one."""
    thousands = "," if lang in _COMMA_THOUSANDS else "."
    spaces = "\u00a0\u202f" + (" " if lang in _SPACED_THOUSANDS else "")
    found = re.fullmatch(rf"(\d{{1,3}}(?:[{thousands}{spaces}]\d{{3}})+|\d+)(?:[.,](\d+))?", number)
    if found is None:
        return " ".join(re.findall(r"\d+", number))
    digits = re.sub(r"\D", "", found[1])
    return f"{digits}.{found[2]}" if found[2] else digits
