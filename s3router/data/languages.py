"""Normalisation of read sentences (Common Voice, LibriSpeech) in many languages.

`normalize` makes a sentence into words of lower-case letters, separated by single blanks. In order:

1. Unicode NFKC (full-width letters, ligatures such as ``ﬁ`` and composed accents become the usual ones); marks that are
   not seen (zero width, soft hyphen, byte order mark, direction) go; typographic apostrophes become ``'``.
2. Lower case. Turkish: ``I`` becomes ``ı`` and ``İ`` becomes ``i``.
3. Apostrophes: kept inside words where they are spelling (English *don't*, French and Italian elision *l'homme*,
   Dutch *foto's*) and at the start of the Dutch short words (*'s avonds*, *'t*: `Language.clipped`). In the other
   languages they go without a trace, so that Turkish *Türkiye'de* stays one word.
4. Every other mark of punctuation or symbol, hyphens included, becomes a blank. Digits, and symbols that are read aloud
   (``%``, ``&``, ``€`` …), are refused: they have no single reading.
5. Letters outside the language's alphabet lose their accents (*Zoë* in English becomes *zoe*); what is then still
   outside is refused.
6. Chinese: blanks between characters go, so that the characters are the units, and CER is the metric.

What is refused, prepared corpora leave out and list, with the reason. Letters are kept as they are written: Spanish and
Italian accents, Russian ``ё``. The transcripts of telephone prompts, with remarks and numbers in them, have rules of
their own in `s3router.data.text`.

A language that is not in `LANGUAGES` gets rules 1 to 4 (apostrophes inside words stay), any letters, and the espeak-ng
voice of its name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from s3router.errors import ConfigError, DataError

_LATIN = "abcdefghijklmnopqrstuvwxyz"
_CYRILLIC = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"


@dataclass(frozen=True)
class Language:
    """Rules of one language.

    Attributes:
        locale: as Common Voice names it.
        voice: espeak-ng's name of it, for phonemes.
        alphabet: letters after normalisation; None: any letters.
        apostrophes: they are spelling inside words.
        clipped: words that begin with an apostrophe, without it.
        turkic_i: dotted and dotless i are two letters.
        chinese: characters are the units; ``alphabet`` lists the letters besides them.
    """

    locale: str
    voice: str
    alphabet: str | None = None
    apostrophes: bool = False
    clipped: tuple[str, ...] = ()
    turkic_i: bool = False
    chinese: bool = False


LANGUAGES = {
    language.locale: language
    for language in (
        Language("en", "en-us", _LATIN, apostrophes=True),
        Language("nl", "nl", _LATIN + "àäçèéêëïóöü", apostrophes=True, clipped=("s", "t", "n", "k", "m", "r", "ns")),
        Language("zh-TW", "cmn", _LATIN, chinese=True),
        Language("zh-CN", "cmn", _LATIN, chinese=True),
        Language("es", "es", _LATIN + "áéíñóúü"),
        Language("tt", "tt", _CYRILLIC + "әҗңөүһ"),
        Language("ru", "ru", _CYRILLIC),
        Language("it", "it", _LATIN + "àèéìíîòóùú", apostrophes=True),
        Language("ky", "ky", _CYRILLIC + "ңөү"),
        Language("tr", "tr", _LATIN + "çğıöşüâîû", turkic_i=True),
        Language("sv-SE", "sv", _LATIN + "åäöéàü"),
        Language("be", "be", "абвгдеёжзійклмнопрстуўфхцчшыьэюя", apostrophes=True),
        Language("bg", "bg", "абвгдежзийклмнопрстуфхцчшщъьюя"),
        Language("ca", "ca", _LATIN + "àçèéíïòóúü", apostrophes=True),
        Language("da", "da", _LATIN + "æøåé"),
        Language("el", "el", "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ"),
        Language("ro", "ro", _LATIN + "ăâîșț"),
        Language("fr", "fr", _LATIN + "àâæçèéêëîïôœùûüÿ", apostrophes=True),
    )
}
"""Those of the paper's Common Voice table, English, and those of Tux Paint's stamps."""

_VOICES = {"nn-NO": "nb", "zh-HK": "yue"}  # where espeak-ng's name is not the locale's first part
_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")
_CEDILLAS = str.maketrans("şţŞŢ", "șțȘȚ")  # Romanian has commas below, and is often written with cedillas
_APOSTROPHES = re.compile("[’‘‛ʼʹ´`′＇]")
_SPOKEN = frozenset("%‰&@#+=°§")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_BETWEEN_HAN = re.compile(f"(?<=[{_HAN}]) +(?=[{_HAN}])")
_IS_HAN = re.compile(f"[{_HAN}]")


def language(locale: str) -> Language:
    """The rules for a locale; of an unknown one the general rules, with the voice that its name suggests.

    Raises:
        ConfigError: not a locale's name at all.
    """
    if locale in LANGUAGES:
        return LANGUAGES[locale]
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", locale):
        raise ConfigError(f"{locale!r} is not a locale; locales look like nl, sv-SE or zh-TW")
    chinese, voice = locale in ("yue", "zh-HK"), _VOICES.get(locale, locale.split("-")[0].lower())
    return Language(
        locale,
        voice,
        alphabet=_LATIN if chinese else None,
        apostrophes=not chinese,
        turkic_i=locale in ("az", "crh"),
        chinese=chinese,
    )


def normalize(text: str, locale: str) -> str:
    """Normalise a sentence (see the module's rules).

    Raises:
        ConfigError: not a locale's name.
        DataError: no words, digits, or letters of another script; the message is the reason, for the report of what
            was left out.
    """
    rules = language(locale)
    text = _APOSTROPHES.sub("'", _UNSEEN.sub("", text))
    text = unicodedata.normalize("NFKC", text)
    if rules.locale == "ro":
        text = unicodedata.normalize("NFC", text).translate(_CEDILLAS)
    if rules.turkic_i:
        text = text.replace("I", "ı").replace("İ", "i")
    text = unicodedata.normalize("NFC", text.lower())
    if any(c.isnumeric() and not _IS_HAN.match(c) for c in text):  # 三 is numeric, and a character like others
        raise DataError("digits: they have no single reading")
    if spoken := sorted(c for c in set(text) if c in _SPOKEN or unicodedata.category(c) == "Sc"):
        raise DataError(f"symbols: {' '.join(spoken)} may be read aloud")
    text = _apostrophes(text, rules)
    text = "".join(c if is_letter(c) or c == "'" else " " for c in text)
    if rules.alphabet is not None:
        text = "".join(_into_alphabet(c, rules) for c in text)
    text = " ".join(text.split())
    if rules.chinese:
        text = _BETWEEN_HAN.sub("", text)
    if not text.replace("'", "").strip():
        raise DataError("no words")
    return text


def is_letter(character: str) -> bool:
    """Whether it is a letter, or a vowel sign or accent that goes with one."""
    return unicodedata.category(character)[0] in "LM"


def _apostrophes(text: str, rules: Language) -> str:
    if not rules.apostrophes:
        return text.replace("'", "")
    places = {
        i for i in range(1, len(text) - 1) if text[i] == "'" and is_letter(text[i - 1]) and is_letter(text[i + 1])
    }
    if rules.clipped:
        clipped = rf"(?<!\S)'(?=(?:{'|'.join(rules.clipped)})\b)"
        places |= {match.start() for match in re.finditer(clipped, text)}
    return "".join(" " if c == "'" and i not in places else c for i, c in enumerate(text))


def _into_alphabet(character: str, rules: Language) -> str:
    if character in " '" or character in rules.alphabet or (rules.chinese and _IS_HAN.match(character)):
        return character
    bare = "".join(c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c)[0] != "M")
    if all(c in rules.alphabet for c in bare):
        return bare
    raise DataError(f"outside the alphabet: {character} (U+{ord(character):04X})")
