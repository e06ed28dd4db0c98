"""Transcripts of ML-SUPERB 2.0: ``[iso] text``, the codes of its languages, and the form in which CER is counted.

The rules, of the challenge's scorer (espnet/espnet, egs2/ml_superb2/asr1/local/score.py), in order:

1. in languages that are written without blanks (`UNSPACED`) blanks go;
2. characters of Unicode's category P (punctuation) go, without a blank in their place;
3. upper case.

Symbols, digits and letters stay as they are written, and there is no Unicode normalisation. Training texts
(`training_text`) have single blanks besides, which no scorer asks for: a character between blanks that was punctuation
leaves two of them.
"""

from __future__ import annotations

import re
import unicodedata

from s3router.errors import DataError

UNSPACED = frozenset(("cmn", "jpn", "tha", "yue"))
ALIASES = {"org_jpn": "jpn", "lga": "lug", "ory": "ori", "arb": "ara"}
"""Codes in the data -> codes that the challenge expects (egs2/ml_superb2/asr1/local/download_refined.py)."""
EXCLUDED = frozenset(("nno", "nob", "nor"))
"""Norwegian, which the challenge leaves out of training and development."""
VARIETY = re.compile(r"ms_speech_(guj|tam|tel)_")
"""Ids among the varieties that name their language, whatever the data say of it."""

_TAGGED = re.compile(r"\s*\[([A-Za-z_]+)\]\s*(.*)", re.DOTALL)


def language_code(label: str, utt: str = "") -> str:
    """The code that the challenge expects, from the data's own and the utterance's id."""
    if found := VARIETY.match(utt):
        return found[1]
    label = label.strip()
    return ALIASES.get(label, label)


def split_tag(text: str) -> tuple[str, str]:
    """``"[eng] some words"`` -> ("eng", "some words").

    Raises:
        DataError: it does not begin with a language.
    """
    if not (found := _TAGGED.fullmatch(text)):
        raise DataError(f"not '[iso] text': {text[:40]!r}")
    return found[1], found[2].strip()


def tagged(lang: str, text: str) -> str:
    """The inverse of `split_tag`."""
    return f"[{lang}] {text}".rstrip()


def scored_text(text: str, lang: str) -> str:
    """The characters that CER counts, by the rules of the module."""
    if lang in UNSPACED:
        text = "".join(text.split())
    return "".join(c for c in text if unicodedata.category(c)[0] != "P").upper()


def training_text(text: str, lang: str) -> str:
    """The same with single blanks; empty where nothing is left."""
    return " ".join(scored_text(text, lang).split())
