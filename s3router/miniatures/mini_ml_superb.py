"""A miniature of ML-SUPERB 2.0 in both of its layouts: twelve languages, and two varieties."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3router.data.audio import SAMPLE_RATE
from s3router.data.languages import language
from s3router.errors import ConfigError
from s3router.files import replacing, write_lines
from s3router.miniatures.sentences import Speaker, sentences

LOCALES = {
    **{"cmn": "zh-CN", "eng": "en", "fra": "fr", "ita": "it", "kir": "ky", "nld": "nl", "org_jpn": "ja"},
    **{"rus": "ru", "spa": "es", "swe": "sv-SE", "tat": "tt", "tur": "tr"},
}
"""Code in the data -> locale of the sentences. Turkish is one of the reserved languages."""
VARIETIES = {"eng": "en-gb-scotland", "spa": "es-419"}
"""Language -> espeak-ng's voice of a variety."""
LAYOUTS = ("eighth_version", "huggingface")
SOURCES = {"commonvoice": "cv", "fleurs": "fleurs"}
"""Folder -> how ids begin; every other utterance is of the second."""
HELD_OUT = {"dev": 3, "test": 3}
SHARDS = 2
_TRANSCRIPTS = {"train": ("10min_train", "1h_train"), "dev": ("10min_dev",), "test": ("10min_test",)}


@dataclass(frozen=True)
class Clip:
    """One utterance: in which source and part, and what is said."""

    utt: str
    lang: str
    source: str
    part: str
    text: str
    wav: bytes


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
        write_tables(out / "data", spoken, varieties)
    else:
        write_transcripts(out / LAYOUTS[0], spoken)
        write_transcripts(out / "varieties", varieties)
    return f"{out}: {clips} clips for training, {sum(HELD_OUT.values())} besides, in {' '.join(langs)}"


def speak(lang: str, clips: int) -> Iterator[Clip]:
    """The utterances of one language, by one speaker for training and two others besides."""
    locale, number = LOCALES[lang], 0
    texts, voice = iter(sentences(locale, clips + sum(HELD_OUT.values()))), language(LOCALES[lang]).voice
    for who, (part, count) in enumerate({"train": clips, **HELD_OUT}.items()):
        for _ in range(count):
            source = list(SOURCES)[number % len(SOURCES)]
            text = next(texts)
            wav = content(Speaker.number(2 * who + number % 2).say(text, voice))
            yield Clip(f"{SOURCES[source]}_{lang}_{number:06d}", lang, source, part, f"{text}.", wav)
            number += 1


def speak_variety(lang: str) -> Iterator[Clip]:
    """Utterances in a variety of a language."""
    for number, text in enumerate(sentences(LOCALES[lang], 3, seed=1)):
        wav = content(Speaker.number(number).say(text, VARIETIES[lang]))
        yield Clip(f"variety_{lang}_{number:06d}", lang, "accents", "dev", f"{text}!", wav)


def content(samples) -> bytes:
    """float32 (samples,) at 16 kHz -> a wav file."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_transcripts(root: Path, clips: Sequence[Clip]) -> None:
    """``root``/SOURCE/LANG/{wav,transcript_*.txt}; the ten minutes are every other utterance of the hour."""
    folders: dict[Path, list[Clip]] = {}
    for clip in clips:
        folders.setdefault(root / clip.source / clip.lang, []).append(clip)
    for folder, some in folders.items():
        for clip in some:
            with replacing(folder / "wav" / f"{clip.utt}.wav", "wb") as file:
                file.write(clip.wav)
        for part, names in _TRANSCRIPTS.items():
            lines = [f"{clip.utt} {clip.lang} {clip.text}" for clip in some if clip.part == part]
            for name in names:
                chosen = lines[::2] if name == "10min_train" else lines
                write_lines(folder / f"transcript_{name}.txt", chosen)


def write_tables(folder: Path, clips: Sequence[Clip], varieties: Sequence[Clip]) -> None:
    """``folder``/{train,dev,dev_dialect}-*.parquet, the last two in one file each."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"--layout huggingface needs pyarrow ({error}): pip install pyarrow") from None
    folder.mkdir(parents=True, exist_ok=True)
    train = [clip for clip in clips if clip.part == "train"]
    tables = {f"train-{n:05d}-of-{SHARDS:05d}": train[n::SHARDS] for n in range(SHARDS)}
    tables["dev-00000-of-00001"] = [clip for clip in clips if clip.part != "train"]
    if varieties:
        tables["dev_dialect-00000-of-00001"] = list(varieties)
    for name, some in tables.items():
        rows = [
            {
                "id": clip.utt,
                "language": clip.lang,
                "audio": {"bytes": clip.wav, "path": f"{clip.utt}.wav"},
                "text": f"[{clip.lang}] {clip.text}",
            }
            for clip in some
        ]
        with replacing(folder / f"{name}.parquet", "wb") as file:
            parquet.write_table(pyarrow.Table.from_pylist(rows), file)
