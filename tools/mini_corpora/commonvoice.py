#!/usr/bin/env python3
"""Make a miniature Common Voice release in the official layout.

    python tools/mini_corpora/commonvoice.py OUT --langs nl tr zh-TW

leaves OUT/cv-corpus-0.0-mini/LANG/{clips/*.mp3,train.tsv,dev.tsv,test.tsv,validated.tsv}. ``--layout old`` writes the
columns of early releases (no sentence_id). The voices are espeak-ng's. Error rates on it mean nothing; it is there to
try the recipe out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sentences import PARTS, Speaker, sentences

from s3router.data.languages import language

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
        (folder / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--langs", nargs="+", default=sorted(PARTS), choices=sorted(PARTS), metavar="LANG")
    parser.add_argument("--clips", type=int, default=40, help="for training, in each language (%(default)s)")
    parser.add_argument("--layout", choices=sorted(COLUMNS), default="new", help="columns of the tables (%(default)s)")
    args = parser.parse_args()
    for locale in args.langs:
        make_language(args.out / RELEASE / locale, locale, args.clips, args.layout)
        print(f"{args.out / RELEASE / locale}: {args.clips} clips for training, 12 for development and test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
