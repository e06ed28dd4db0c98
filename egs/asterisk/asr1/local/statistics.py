#!/usr/bin/env python3
"""Print the corpus table of README.md for every language under a data folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from s3router.corpora.asterisk import SPEAKERS, SPLITS, overlap_with_train
from s3router.data.kaldi import DataDir
from s3router.errors import DataError, S3RouterError


def row(folder: Path, lang: str) -> str:
    """One line of the table."""
    splits = {name: DataDir.read(folder / lang / name) for name, _ in reversed(SPLITS)}
    texts = {u.utt: u.text for data in splits.values() for u in data.utts}
    sides = {u.utt: name for name, data in splits.items() for u in data.utts}
    sizes = [f"{len(data.utts)} / {data.seconds / 60:.1f}" for data in splits.values()]
    known = {word for u in splits["train"].utts for word in u.text.split()}
    words = [word for u in splits["test"].utts for word in u.text.split()]
    new = sum(word not in known for word in words) / len(words)
    shared, long = overlap_with_train(sides, texts)
    dropped = len((folder / lang / "dropped.tsv").read_text(encoding="utf-8").splitlines()) - 1
    letters = len({letter for text in texts.values() for letter in text} - {" "})
    cells = [lang, SPEAKERS[lang], *sizes, dropped, letters, len(words), f"{new:.0%}", f"{shared} of {long}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=Path("data"))
    args = parser.parse_args()
    languages = [lang for lang in SPEAKERS if (args.data / lang / "test/wav.scp").is_file()]
    if not languages:
        raise DataError(f"{args.data}: no prepared language; run local/data.sh --lang L first")
    titles = ["language", "speaker", "train (prompts / min)", "dev", "test", "dropped", "letters", "test words"]
    titles += ["of them not in train", "test sentences sharing over half of their words with one of train"]
    print("| " + " | ".join(titles) + " |")
    print("|" + " --- |" * len(titles))
    for lang in languages:
        print(row(args.data, lang))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except S3RouterError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
