"""A miniature of ML-SUPERB 2.0 in both of its layouts: twelve languages, and two varieties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from s3router.corpora.ml_superb_layouts import DEV, DIALECT, TEST, TRAIN
from s3router.corpora.ml_superb_writing import LAYOUTS, Clip, content, write_tables, write_transcripts
from s3router.data.languages import language
from s3router.errors import ConfigError
from s3router.miniatures.sentences import Speaker, sentences

LOCALES = {
    **{"cmn": "zh-CN", "eng": "en", "fra": "fr", "ita": "it", "kir": "ky", "nld": "nl", "org_jpn": "ja"},
    **{"rus": "ru", "spa": "es", "swe": "sv-SE", "tat": "tt", "tur": "tr"},
}
"""Code in the data -> locale of the sentences. Turkish is one of the reserved languages."""
VARIETIES = {"eng": "en-gb-scotland", "spa": "es-419"}
"""Language -> espeak-ng's voice of a variety."""
SOURCES = {"commonvoice": "cv", "fleurs": "fleurs"}
"""Folder -> how ids begin; every other utterance is of the second."""
HELD_OUT = {DEV: 3, TEST: 3}


def ml_superb(out: Path, layout: str, langs: Sequence[str] = (), clips: int = 12) -> str:
    """Languages of it in one layout; returns a line about it.

    Leaves ``out``/eighth_version/SOURCE/LANG/{wav,transcript_*.txt} and ``out``/varieties in the same form, or
    ``out``/data/{train,dev,dev_dialect}-*.parquet, with the same sentences.

    Args:
        out: folder to write.
        layout: one of `LAYOUTS`.
        langs: codes of `LOCALES` (none: all).
        clips: for training, in each language; there are 6 to evaluate on, and 3 of each variety.

    Raises:
        ConfigError: pyarrow is missing, or a single utterance for training.
    """
    if clips < 2:
        raise ConfigError(f"--clips must be at least 2, found {clips}")
    langs = langs or list(LOCALES)
    spoken = [clip for lang in langs for clip in speak(lang, clips)]
    varieties = [clip for lang in langs if lang in VARIETIES for clip in speak_variety(lang)]
    if layout == LAYOUTS[1]:
        parts = [(TRAIN if clip.part == TRAIN else TEST, clip) for clip in spoken]
        write_tables(out / "data", [*parts, *((DIALECT, clip) for clip in varieties)])
    else:
        write_transcripts(out / LAYOUTS[0], spoken)
        write_transcripts(out / "varieties", varieties)
    return f"{out}: {clips} clips for training, {sum(HELD_OUT.values())} besides, in {' '.join(langs)}"


def speak(lang: str, clips: int) -> Iterator[Clip]:
    """The utterances of one language, by one speaker for training and two others besides."""
    locale, number = LOCALES[lang], 0
    texts, voice = iter(sentences(locale, clips + sum(HELD_OUT.values()))), language(LOCALES[lang]).voice
    for who, (part, count) in enumerate({TRAIN: clips, **HELD_OUT}.items()):
        for _ in range(count):
            source = list(SOURCES)[number % len(SOURCES)]
            text = next(texts)
            wav = content(Speaker.number(2 * who + number % 2).say(text, voice))
            few = part == TRAIN and number // len(SOURCES) % 2 == 0  # every other one of its source
            yield Clip(f"{SOURCES[source]}_{lang}_{number:06d}", lang, source, part, f"{text}.", wav, few)
            number += 1


def speak_variety(lang: str) -> Iterator[Clip]:
    """Utterances in a variety of a language."""
    for number, text in enumerate(sentences(LOCALES[lang], 3, seed=1)):
        wav = content(Speaker.number(number).say(text, VARIETIES[lang]))
        yield Clip(f"variety_{lang}_{number:06d}", lang, "accents", DEV, f"{text}!", wav)
