#!/usr/bin/env python3
"""LibriMix in its official layout -> Kaldi directories train, dev and test with ``rttm`` (called by local/data.sh).

The mixtures are those of ``Libri2Mix/wav16k/max/metadata/mixture_*_mix_both.csv``; who speaks when comes from the turns
of the two LibriSpeech utterances in ``metadata/LibriSpeech/*.rttm`` (in "max" mixtures both begin at 0).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_beside
from s3router.errors import DataError, run_script

SETS = {"train": ("train-100", "train_clean_100"), "dev": ("dev", "dev_clean"), "test": ("test", "test_clean")}
COLUMNS = ("mixture_ID", "mixture_path", "length")
Turns = dict[str, list[tuple[str, str, str]]]
"""utterance -> (start, duration, speaker)"""


def read_turns(path: Path) -> Turns:
    """Raises DataError where the file is missing or a line is of another form."""
    if not path.is_file():
        raise DataError(f"{path} is missing: who speaks when in LibriSpeech, from s3prl's LibriMix")
    found: Turns = {}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) < 8 or parts[0] != "SPEAKER":
            problems.append(f"line {number} is not 'SPEAKER UTTERANCE 1 START DURATION <NA> <NA> SPEAKER …': {line!r}")
        else:
            found.setdefault(parts[1], []).append((parts[3], parts[4], parts[7]))
    if problems or not found:
        raise DataError(summary(path, problems or ["the file is empty"]))
    return found


def read_mixtures(top: Path, part: str) -> dict[str, Path]:
    """Name -> recording, where the table says or in its place in the corpus. Raises DataError for what is missing."""
    path = top / "metadata" / f"mixture_{part}_mix_both.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing: expected Libri2Mix at 16 kHz, of the kind 'max', with noise (mix_both)")
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if lacking := [name for name in COLUMNS if name not in (table.fieldnames or [])]:
            raise DataError(f"{path}: no column {', '.join(lacking)}: not a table of LibriMix")
        rows = list(table)
    found, problems = {}, []
    for row in rows:
        name, given = row["mixture_ID"], Path(row["mixture_path"])
        found[name] = given if given.is_file() else top / part / "mix_both" / f"{name}.wav"
        if name.count("_") != 1:
            problems.append(f"{name} does not name two utterances")
        if not found[name].is_file():
            problems.append(f"{found[name]} is missing")
    if problems or not found:
        raise DataError(summary(path, problems or ["it holds no mixture"]))
    return found


def lines_of(mixture: str, turns: Turns) -> list[str]:
    """RTTM lines of a mixture. Raises DataError where turns of an utterance are unknown."""
    lines = []
    for utt in mixture.split("_"):
        speaker, rest = utt.split("-", 1)
        known = turns.get(utt) or turns.get(rest)
        if known is None:
            raise DataError(f"{mixture}: no turn of {utt} (or {rest}) is known")
        lines += [f"SPEAKER {mixture} 1 {start} {length} <NA> <NA> {speaker} <NA> <NA>" for start, length, _ in known]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = args.corpus.resolve()
    top = corpus / "Libri2Mix/wav16k/max"
    sets, problems = {}, []
    for name, (part, source) in SETS.items():
        mixtures, turns = read_mixtures(top, part), read_turns(corpus / "metadata/LibriSpeech" / f"{source}.rttm")
        rttm: list[str] = []
        for mixture in sorted(mixtures):
            try:
                rttm += lines_of(mixture, turns)
            except DataError as error:
                problems.append(str(error))
        sets[name] = mixtures, rttm
    if problems:
        raise DataError(summary(corpus, problems))
    for name in ("test", "dev", "train"):
        mixtures, rttm = sets[name]
        folder = args.out / name
        write_beside(folder, [Utterance(mixture, str(wav)) for mixture, wav in mixtures.items()], "rttm", rttm)
        print(f"{folder}: {len(mixtures)} mixtures, {len(rttm)} turns")
    return 0


if __name__ == "__main__":
    run_script(main)
