#!/usr/bin/env python3
"""From LibriSpeech's folders to Kaldi data directories (called by local/data.sh)."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from s3router.data import languages
from s3router.data.audio import probe
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import DataError, run_script

EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
OFFICIAL = {"dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939, "train-clean-100": 28539}
"""Utterances of the release (Panayotov et al., ICASSP 2015)."""

LIBRILIGHT = {"10min": ("1h/0",), "1h": ("1h",), "10h": ("1h", "9h")}
"""Folders of librispeech_finetuning that make a subset (Kahn et al., ICASSP 2020): of the six folds of 10 minutes the
first; all six; and all of it."""


def find_corpus(folder: Path) -> Path:
    """The folder that holds ``dev-clean`` and its like: ``folder`` or ``folder/LibriSpeech``.

    Raises:
        DataError: neither, or one part of the evaluation sets is missing; says what is there instead.
    """
    for candidate in (folder, folder / "LibriSpeech"):
        if (candidate / EVALUATION[0]).is_dir():
            if missing := [part for part in EVALUATION if not (candidate / part).is_dir()]:
                raise DataError(f"{candidate}: {', '.join(missing)} missing; unpack these archives there, too")
            return candidate
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) if folder.is_dir() else "no such folder"
    raise DataError(
        f"{folder}: not LibriSpeech (there: {there or 'nothing'}); --librispeech names the folder that holds "
        f"{', '.join(EVALUATION)}"
    )


def find_librilight(corpus: Path, given: Path | None) -> Path:
    """The folder ``librispeech_finetuning``. Raises DataError where it is not."""
    tried = [given] if given else [corpus / "librispeech_finetuning", corpus.parent / "librispeech_finetuning"]
    for folder in tried:
        if (folder / "1h").is_dir():
            return folder
    raise DataError(
        f"no Libri-light subsets in {' or '.join(map(str, tried))}: expected the folders 1h and 9h there. Unpack "
        f'librispeech_finetuning.tgz beside LibriSpeech, or name it: --local-data-opts "--librilight DIR"'
    )


def read_part(folder: Path, more_text: bool = False, as_it_is: bool = False) -> list[Utterance]:
    """Utterances under ``folder``: every ``SPEAKER-BOOK.trans.txt`` with the recordings beside it.

    Args:
        more_text: transcripts without a recording are no mistake (of Libri-light: its books are cut, their texts may
            not be).
        as_it_is: leave the transcripts in the release's capitals, apostrophes and all.

    Raises:
        DataError: the folder is missing or empty, or recordings and transcripts do not go together; all problems.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; unpack the archive that holds it")
    utts, problems, used = [], [], set()
    for transcripts in sorted(folder.rglob("*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            utt, _, text = line.partition(" ")
            recording = transcripts.parent / f"{utt}.flac"
            if not recording.is_file():
                problems += [] if more_text else [f"{recording}: missing, but {transcripts.name} has its text"]
                continue
            used.add(recording)
            try:
                text = text.strip() if as_it_is else languages.normalize(text, "en")
            except DataError as error:
                problems.append(f"{transcripts}: {utt}: {error}")
                continue
            try:
                seconds = probe(recording).seconds
            except DataError as error:
                problems.append(str(error))
                continue
            utts.append(Utterance(utt, str(recording.resolve()), text, utt.split("-")[0], seconds))
    problems += [f"{path}: no transcript for it" for path in sorted(folder.rglob("*.flac")) if path not in used]
    if problems:
        raise DataError(summary(folder, problems) + "\nunpack the archive again")
    if not utts:
        raise DataError(f"{folder}: no recordings with transcripts (*.flac, *.trans.txt); unpack the archive again")
    return utts


def key_of(*sources: Path) -> str:
    """Of what and by which rules a directory was made."""
    rules = Path(__file__).read_bytes() + Path(languages.__file__).read_bytes()
    return hashlib.sha256(rules + "\n".join(str(source.resolve()) for source in sources).encode()).hexdigest()


def prepare(out: Path, *sources: Path, more_text: bool = False) -> str:
    """Write one directory of all ``sources``, unless it is there already; returns a line about it."""
    stamp, key = out / ".prepared", key_of(*sources)
    if (out / "wav.scp").is_file() and stamp.is_file() and stamp.read_text().splitlines()[0] == key:
        return stamp.read_text().splitlines()[1]
    utts = []
    for source in sources:
        part = read_part(source, more_text)
        expected = OFFICIAL.get(source.name, len(part))
        if len(part) != expected and len(sources) == 1:
            print(f"WARNING: {source} has {len(part)} utterances, the release {expected}", file=sys.stderr)
        utts += part
    data = DataDir(out, utts).write(out)
    speakers = len({u.speaker for u in utts})
    line = f"{out}: {len(utts)} utterances, {speakers} speakers, {data.seconds / 60:.1f} min"
    stamp.write_text(f"{key}\n{line}\n", encoding="utf-8")
    return line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="LibriSpeech, or the folder that holds it")
    parser.add_argument("--librilight", type=Path, help="librispeech_finetuning (default: beside or in the corpus)")
    parser.add_argument("--subset", choices=[*LIBRILIGHT, "100h"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="gets train_SUBSET, dev, dev_clean …")
    args = parser.parse_args()
    corpus = find_corpus(args.corpus)
    train = [corpus / "train-clean-100"]
    if args.subset in LIBRILIGHT:
        librilight = find_librilight(corpus, args.librilight)
        train = [librilight / folder for folder in LIBRILIGHT[args.subset]]
    print(prepare(args.out / f"train_{args.subset}", *train, more_text=args.subset in LIBRILIGHT))
    for part in EVALUATION:
        print(prepare(args.out / part.replace("-", "_"), corpus / part))
    print(prepare(args.out / "dev", corpus / "dev-clean", corpus / "dev-other"))
    return 0


if __name__ == "__main__":
    run_script(main)
