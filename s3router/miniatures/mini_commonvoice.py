"""A miniature of a Common Voice release."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from s3router.data.languages import language
from s3router.files import write_lines
from s3router.miniatures.sentences import PARTS, Speaker, sentences

RELEASE, RATE = "cv-corpus-0.0-mini", 32000
COLUMNS = {
    "old": ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment"],
    "new": [
        *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age"),
        *("gender", "accents", "variant", "locale", "segment"),
    ],
}
SPEAKERS = {"train": 6, "dev": 2, "test": 2}  # train: share of its clips; dev and test: three clips each


def write_mp3(path: Path, samples, rate: int) -> None:
    """float32 (samples,) as mp3, mono."""
    import soundfile

    soundfile.write(path, samples, rate, format="MP3")


def make_language(folder: Path, locale: str, clips: int, layout: str) -> None:
    """One language: ``clips`` of them for training."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    voice, speaker, number = language(locale).voice, 0, 0
    texts = iter(sentences(locale, clips + 12))
    tables: dict[str, list[dict[str, str]]] = {"validated": []}
    for split, speakers in SPEAKERS.items():
        tables[split] = []
        for index in range(clips if split == "train" else 3 * speakers):
            text = next(texts)
            who = speaker + index % speakers
            name = f"common_voice_{locale}_{10000 + number}.mp3"
            write_mp3(folder / "clips" / name, Speaker.number(who).say(text, voice, RATE), RATE)
            if index % 4 == 0:  # quotation marks, which are no quoting of the table's cells
                text = f'"{text}!'
            row = dict.fromkeys(COLUMNS[layout], "")
            row |= {"client_id": hashlib.sha512(f"{locale} {who}".encode()).hexdigest(), "path": name}
            row |= {"sentence": f"{text}.", "up_votes": "2", "down_votes": "0", "locale": locale}
            tables[split].append(row)
            number += 1
        speaker += speakers
        tables["validated"] += tables[split]
    for split, rows in tables.items():
        lines = ["\t".join(COLUMNS[layout]), *("\t".join(row.values()) for row in rows)]
        write_lines(folder / f"{split}.tsv", lines)


def commonvoice(out: Path, langs: Sequence[str] = (), clips: int = 40, layout: str = "new") -> str:
    """Languages of a release; returns a line about it.

    Leaves ``out``/cv-corpus-0.0-mini/LANG/{clips/*.mp3,train.tsv,dev.tsv,test.tsv,validated.tsv}.

    Args:
        out: folder to write.
        langs: locales (none: all that there are sentences in).
        clips: for training, in each language; there are 12 for development and test.
        layout: of the tables: "new", or "old" for the columns of early releases (no sentence_id).
    """
    langs = langs or sorted(PARTS)
    for locale in langs:
        make_language(out / RELEASE / locale, locale, clips, layout)
    return f"{out / RELEASE}: {clips} clips for training, 12 for development and test, in {' '.join(langs)}"
