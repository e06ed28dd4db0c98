#!/usr/bin/env python3
"""QUESST 2014 in its official layout -> Kaldi directories documents, dev and test (called by local/data.sh).

As in SUPERB, only what ``scoring/language_key_*.lst`` marks as non-native English: documents, development queries (dev)
and evaluation queries (test). ``hits`` beside ``wav.scp`` names the documents that hold a query, from the ground truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.utt2label import write_beside
from s3router.errors import DataError, run_script

LANGUAGE = "nnenglish"
QUERIES = {"dev": "dev", "test": "eval"}  # our name: theirs


def recordings(top: Path, listed: str) -> list[Utterance]:
    """The English recordings of a list. Raises DataError for a list that is missing or of another form."""
    path = top / "scoring" / f"language_key_{listed}.lst"
    if not path.is_file():
        raise DataError(f"{path} is missing: not the folder quesst14Database of QUESST 2014, or not all of it")
    found, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) != 2 or "/" not in parts[0]:
            problems.append(f"line {number} is not 'quesst14Database/FOLDER/FILE.wav LANGUAGE': {line!r}")
            continue
        if parts[1] == LANGUAGE:
            wav = top / parts[0].split("/", 1)[1]
            found.append(Utterance(wav.stem, str(wav)))
            if not wav.is_file():
                problems.append(f"line {number}: {wav} is missing")
    if not found:
        problems.append(f"no recording of {LANGUAGE}")
    if problems:
        raise DataError(summary(path, problems))
    return found


def read_hits(path: Path, queries: set[str], documents: set[str]) -> dict[str, set[str]]:
    """Query -> documents with it, of those asked for. Raises DataError where the ground truth is missing or strange."""
    if not path.is_file():
        raise DataError(f"{path} is missing: the ground truth belongs to the corpus")
    hits: dict[str, set[str]] = {query: set() for query in queries}
    problems = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if not parts or parts[0] != "LEXEME":
            continue
        if len(parts) < 6:
            problems.append(f"line {number} is not 'LEXEME FILE CHANNEL START DURATION QUERY …': {line!r}")
        elif parts[5] in hits and parts[1] in documents:
            hits[parts[5]].add(parts[1])
    if not problems and not any(hits.values()):
        problems.append("none of the English queries is in any of the English documents")
    if problems:
        raise DataError(summary(path, problems))
    return hits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = args.corpus.resolve()
    top = corpus if (corpus / "scoring").is_dir() else corpus / "quesst14Database"
    documents = recordings(top, "utterances")
    sets = {}
    for name, theirs in QUERIES.items():
        queries = recordings(top, theirs)
        truth = top / "scoring" / f"groundtruth_quesst14_{theirs}" / f"quesst14_{theirs}.rttm"
        sets[name] = queries, read_hits(truth, {q.utt for q in queries}, {d.utt for d in documents})
    DataDir(args.out, documents).write(args.out / "documents")
    print(f"{args.out / 'documents'}: {len(documents)} documents")
    for name, (queries, hits) in sets.items():
        folder = args.out / name
        write_beside(folder, queries, "hits", (" ".join([query, *sorted(hits[query])]) for query in sorted(hits)))
        print(f"{folder}: {len(queries)} queries, {sum(map(bool, hits.values()))} of them in some document")
    return 0


if __name__ == "__main__":
    run_script(main)
