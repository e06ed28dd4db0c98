"""A miniature of LibriSpeech, of Libri-light's limited subsets, and of the language model."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from s3router.asr.lm import estimate, write_arpa
from s3router.data.audio import SAMPLE_RATE, write_audio
from s3router.files import replacing, write_lines
from s3router.miniatures.sentences import Speaker, sentences

PARTS = {"train-clean-100": 4, "dev-clean": 2, "dev-other": 2, "test-clean": 2, "test-other": 2}  # speakers
FOLDS, FOLD_SPEAKERS, REST_SPEAKERS = 6, 2, 3  # as in Libri-light, whose 9h has 12 speakers a side, not 3


def write_speaker(folder: Path, speaker: int, texts: list[str], noise: float = 0.0) -> None:
    """One reader with one book: ``folder/SPEAKER/BOOK/SPEAKER-BOOK-0000.flac …`` and the transcripts beside them."""
    number, book = 1000 + speaker, 20000 + speaker
    target = folder / str(number) / str(book)
    target.mkdir(parents=True, exist_ok=True)
    random, lines = np.random.default_rng(speaker), []
    for index, text in enumerate(texts):
        utt = f"{number}-{book}-{index:04d}"
        samples = Speaker.number(speaker).say(text, "en-us")
        write_audio(target / f"{utt}.flac", samples + noise * random.standard_normal(len(samples)), SAMPLE_RATE)
        lines.append(f"{utt} {text.upper()}")
    write_lines(target / f"{number}-{book}.trans.txt", lines)


def librispeech(out: Path, utterances: int = 2) -> str:
    """Every speaker reads ``utterances`` sentences, the "other" halves with some noise; returns a line about it.

    Leaves ``out``/LibriSpeech/{train-clean-100,dev-clean,dev-other,test-clean,test-other}/SPEAKER/BOOK/*.flac with
    SPEAKER-BOOK.trans.txt, ``out``/librispeech_finetuning/{1h/{0..5},9h}/{clean,other}/…, and
    ``out``/LM/4-gram.arpa.gz.
    """
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
    return f"{out}: {done} speakers, {done * utterances} utterances"


def write_language_model(path: Path, texts: list[str]) -> None:
    """A 4-gram model over capital words, as OpenSLR's is."""
    plain = path.with_suffix("")
    plain.parent.mkdir(parents=True, exist_ok=True)
    write_arpa(plain, estimate([text.upper().split() for text in texts], 4))
    with replacing(path, "wb") as file:
        file.write(gzip.compress(plain.read_bytes().replace(b"<unk>", b"<UNK>")))
    plain.unlink()
