#!/usr/bin/env python3
"""Make a miniature LibriSpeech, the Libri-light limited subsets and the language model, in the official layout.

    python tools/mini_corpora/librispeech.py OUT

leaves OUT/LibriSpeech/{train-clean-100,dev-clean,dev-other,test-clean,test-other}/SPEAKER/BOOK/*.flac with
SPEAKER-BOOK.trans.txt, OUT/librispeech_finetuning/{1h/{0..5},9h}/{clean,other}/…, and OUT/LM/4-gram.arpa.gz. The voices
are espeak-ng's. Error rates on it mean nothing; it is there to try the recipe out.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sentences import Speaker, sentences

from s3router.data.audio import write_audio

RATE = 16000
PARTS = {"train-clean-100": 4, "dev-clean": 2, "dev-other": 2, "test-clean": 2, "test-other": 2}  # speakers
FOLDS, FOLD_SPEAKERS, REST_SPEAKERS = 6, 2, 3  # as in Libri-light, whose 9h has 12 speakers a side, not 3


def write_speaker(folder: Path, speaker: int, texts: list[str], noise: float = 0.0) -> None:
    """One reader with one book: ``folder/SPEAKER/BOOK/SPEAKER-BOOK-0000.flac …`` and the transcripts beside them."""
    import numpy as np

    number, book = 1000 + speaker, 20000 + speaker
    target = folder / str(number) / str(book)
    target.mkdir(parents=True, exist_ok=True)
    random, lines = np.random.default_rng(speaker), []
    for index, text in enumerate(texts):
        utt = f"{number}-{book}-{index:04d}"
        samples = Speaker.number(speaker).say(text, "en-us", RATE)
        write_audio(target / f"{utt}.flac", samples + noise * random.standard_normal(len(samples)), RATE)
        lines.append(f"{utt} {text.upper()}\n")
    (target / f"{number}-{book}.trans.txt").write_text("".join(lines), encoding="utf-8")


def make(out: Path, utterances: int) -> None:
    """All of it: every speaker reads ``utterances`` sentences, the "other" halves with some noise."""
    folders = [(out / "LibriSpeech" / part, 0.01 * part.endswith("other"), count) for part, count in PARTS.items()]
    sides = [(f"1h/{fold}", FOLD_SPEAKERS) for fold in range(FOLDS)] + [("9h", REST_SPEAKERS)]
    folders += [
        (out / "librispeech_finetuning" / side / kind, 0.01 * (kind == "other"), count)
        for side, count in sides
        for kind in ("clean", "other")
    ]
    speakers = sum(count for *_, count in folders)
    texts = sentences("en", speakers * utterances)
    done = 0
    for folder, noise, count in folders:
        for _ in range(count):
            write_speaker(folder, done, texts[done * utterances : (done + 1) * utterances], noise)
            done += 1
    write_language_model(out / "LM/4-gram.arpa.gz", sentences("en", 60, seed=1))
    print(f"{out}: {done} speakers, {done * utterances} utterances")


def write_language_model(path: Path, texts: list[str]) -> None:
    """A 4-gram model over capital words, as OpenSLR's is."""
    from s3router.asr.lm import estimate, write_arpa

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("")
    write_arpa(plain, estimate([text.upper().split() for text in texts], 4))
    with gzip.open(path, "wb") as file:
        file.write(plain.read_bytes().replace(b"<unk>", b"<UNK>"))
    plain.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--utterances", type=int, default=2, help="of each speaker (%(default)s)")
    args = parser.parse_args()
    make(args.out, args.utterances)
    return 0


if __name__ == "__main__":
    sys.exit(main())
