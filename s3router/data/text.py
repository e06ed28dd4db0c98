"""Normalisation of telephone prompts: from transcripts to the characters that a model is trained on.

The rules, in order:

1. Unicode NFC, lower case; typographic apostrophes become ``'``, hyphens and dashes become spaces.
2. Remarks: ``[@]``-like brackets that hold no letter are removed; a transcript that is nothing but a bracketed
   remark is *not speech*, one with a worded remark inside is *ambiguous* (was it spoken?). Both are refused.
3. Whole numbers are spoken out as cardinals of the language (num2words); a number with a point or comma inside has
   no single reading and is refused.
4. Letters: Spanish loses its acute accents (they are used inconsistently in prompts) but keeps ``ñ``; Russian
   ``ё`` becomes ``е``; Italian ``e'``, typed for ``è``, becomes ``è``; ligatures are opened (``œ`` → ``oe``).
5. Punctuation becomes a space; what is then outside the language's alphabet is refused (so are ``*`` and ``#``, which
   are spoken), and so is a question mark before a lower-case word: it stands for a letter lost in conversion.
"""

from __future__ import annotations

import re
import unicodedata

from s3router.errors import ConfigError, DataError

_LATIN = "abcdefghijklmnopqrstuvwxyz"
ALPHABETS = {
    "en": _LATIN + "'",
    "es": _LATIN + "ñ",
    "fr": _LATIN + "àâæçéèêëîïôùûüÿ'",
    "it": _LATIN + "àèéìíîòóùú'",
    "ru": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
}
"""Letters of each language after normalisation, without the space."""

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'"})
_SPANISH = str.maketrans("áéíóúü", "aeiouu")
_PUNCTUATION = re.compile(r"[\s.,;:!?¡¿\"“”«»…/\-‐‑–—\ufeff]+")
MOST_DIGITS = 15
"""Of a number that is read out; for longer ones many languages have no words."""
_BRACKETED = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_DECIMAL = re.compile(r"\d[.,]\d")
_LOST_LETTER = re.compile(
    r"\?(?=\s*[^\W\d_A-ZА-ЯЁ¿])"
)  # "pu? essere"; a question ends in front of a capital or nothing


def normalize(text: str, lang: str) -> str:
    """Return ``text`` in the alphabet of ``lang``, words separated by single spaces.

    Raises:
        ConfigError: the language has no rules here.
        DataError: nothing is spoken, a remark stands inside, or a character has no reading; the message is the
            reason, for the report of dropped prompts.
    """
    if lang not in ALPHABETS:
        raise ConfigError(f"no text normalisation for language {lang!r}; known: {', '.join(sorted(ALPHABETS))}")
    if not text.strip():
        raise DataError("not speech: the transcript is empty")
    if _LOST_LETTER.search(text):
        raise DataError("damaged: a question mark stands for a letter")
    text = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    for remark in _BRACKETED.findall(text):
        if not any(c.isalnum() for c in remark):
            text = text.replace(remark, " ")
    if not _BRACKETED.sub(" ", text).strip(" .,;"):
        raise DataError("not speech: the transcript is a remark")
    if _BRACKETED.search(text):
        raise DataError("ambiguous: a remark inside the transcript")
    if number := _DECIMAL.search(text):
        raise DataError(f"no single reading: the number around {number.group()}")
    text = re.sub(r"\d+", lambda m: f" {_spoken(m.group(), lang)} ", text)
    text = text.replace("œ", "oe").replace("æ", "ae")
    if lang == "es":
        text = text.translate(_SPANISH)
    elif lang == "ru":
        text = text.replace("ё", "е")
    elif lang == "it":
        text = re.sub(r"(?<!\w)e'(?!\w)", "è", text)
    text = _PUNCTUATION.sub(" ", text)
    words = [w.strip("'") if lang == "en" else w for w in text.split()]
    text = " ".join(w for w in words if w.strip("'"))
    if not text:
        raise DataError("not speech: nothing but punctuation")
    strange = sorted(set(text) - set(ALPHABETS[lang]) - {" "})
    if strange:
        raise DataError(f"no single reading: {' '.join(strange)}")
    return text


def _spoken(digits: str, lang: str) -> str:
    from num2words import num2words  # heavy and only needed while preparing data

    if len(digits) > MOST_DIGITS:
        raise DataError(f"no single reading: a number of {len(digits)} digits")
    return unicodedata.normalize("NFC", num2words(int(digits), lang=lang)).lower()
