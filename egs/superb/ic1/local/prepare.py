#!/usr/bin/env python3
"""Fluent Speech Commands in its official layout -> Kaldi directories train, dev and test (called by local/data.sh).

An utterance's id is its file's name, as in a submission; its label is ``action ; object ; location``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_labelled
from s3router.errors import DataError, run_script

NAME = "fluent_speech_commands_dataset"
SETS = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
SLOTS = ("action", "object", "location")


def find_corpus(folder: Path) -> Path:
    """The folder with data/ and wavs/, at ``folder`` or in it. Raises DataError with what is missing."""
    candidates = [folder, folder / NAME, folder / NAME / NAME]
    for candidate in candidates:
        if all((candidate / "data" / name).is_file() for name in SETS.values()) and (candidate / "wavs").is_dir():
            return candidate
    wanted = ", ".join([*(f"data/{name}" for name in SETS.values()), "wavs/"])
    raise DataError(f"{folder}: not Fluent Speech Commands; expected {wanted} in it, or in {NAME}/ under it")


def read_table(corpus: Path, name: str) -> tuple[list[Utterance], dict[str, tuple[str, ...]]]:
    """The utterances of one table, and their labels.

    Raises:
        DataError: columns or recordings are missing, or two recordings have one name.
    """
    path = corpus / "data" / name
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if lacking := [column for column in ("path", "speakerId", *SLOTS) if column not in (rows.fieldnames or [])]:
            raise DataError(f"{path}: no column {', '.join(lacking)}; is this the official table?")
        utts, labels, problems = [], {}, []
        for row in rows:
            wav = corpus / row["path"]
            if not wav.is_file():
                problems.append(f"{wav} is missing")
            elif wav.stem in labels:
                problems.append(f"two recordings are called {wav.stem}")
            else:
                utts.append(Utterance(wav.stem, str(wav), "", row["speakerId"]))
                labels[wav.stem] = tuple(row[slot].strip() for slot in SLOTS)
    if problems or not utts:
        raise DataError(summary(path, problems or ["the table is empty"]))
    return utts, labels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = find_corpus(args.corpus.resolve())
    tables = {name: read_table(corpus, file) for name, file in SETS.items()}
    for name, (utts, labels) in reversed(tables.items()):
        write_labelled(args.out / name, utts, labels)
        print(f"{args.out / name}: {len(utts)} utterances")
    return 0


if __name__ == "__main__":
    run_script(main)
