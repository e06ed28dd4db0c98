#!/usr/bin/env python3
"""Audio SNIPS -> Kaldi directories train, dev and test, whose texts hold marks of slots (called by local/data.sh).

Texts are cleaned by s3prl's own function, and the voices of the sets are those of its settings.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.slot_marks import marked
from s3router.errors import DataError, run_script
from s3router.upstreams.s3prl_engine import load, problem

TEXTS = "all.iob.snips.txt"
SETS = {"train": "train", "dev": "valid", "test": "test"}
OFFICIAL = {"train": 104_672, "dev": 2800, "test": 2800}
"""Utterances: 13,084, 700 and 700 sentences by eight, four and four voices."""


def find_corpus(folder: Path) -> Path:
    """The folder with the texts and the sets, at ``folder`` or in it. Raises DataError with what is missing."""
    wanted = [TEXTS, *SETS.values()]
    for candidate in (folder, folder / "SNIPS"):
        if (candidate / TEXTS).is_file():
            if missing := [name for name in wanted if not (candidate / name).exists()]:
                raise DataError(f"{candidate}: {', '.join(missing)} missing; unpack the corpus again")
            return candidate
    raise DataError(f"{folder}: not Audio SNIPS; expected {', '.join(wanted)} in it, or in SNIPS/ under it")


def check_texts(path: Path) -> tuple[set[str], list[str]]:
    """The utterances that have a text, and a message for each whose words and tags differ in number.

    The latter are no mistake yet: s3prl's cleaning takes words out that may have no tag, and compares after it.

    Raises:
        DataError: lines of another form.
    """
    problems, found, uneven = [], set(), []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        words, tab, tags = line.strip().partition("\t")
        words, tags = words.split(), tags.split()
        # the first word is the utterance; BOS has a tag, and instead of EOS's there is the intent
        if len(words) < 4 or not tab or (words[1], words[-1]) != ("BOS", "EOS"):
            problems.append(f"line {number} is not '<utterance> BOS words EOS<tab>tags intent'")
            continue
        found.add(words[0])
        if len(words) - 1 != len(tags):
            uneven.append(f"line {number}: {words[0]} has {len(words) - 1} words, but {len(tags)} tags")
    if problems or not found:
        raise DataError(summary(path, problems or ["holds no text"]))
    return found, uneven


def check_sets(corpus: Path, texts: set[str], voices: dict[str, list[str]]) -> None:
    """Refuse a set without a recording of its voices that has a text; say how many have none."""
    for name, folder in SETS.items():
        theirs = [path.stem for path in (corpus / folder).rglob("*.wav") if path.stem.split("-")[0] in voices[name]]
        known = sum(utt in texts for utt in theirs)
        if not known:
            raise DataError(
                f"{corpus / folder}: no recording (*.wav) of {', '.join(voices[name])} that {TEXTS} has a text of"
            )
        if known != len(theirs):
            print(f"WARNING: {folder}: {len(theirs) - known} recordings have no text in {TEXTS}", file=sys.stderr)


def read(corpus: Path, voices: dict[str, list[str]], uneven: list[str]) -> dict[str, list[Utterance]]:
    """Set -> utterances, as s3prl reads and cleans them.

    Raises:
        DataError: even then words and tags differ in number; ``uneven`` says where they did before.
    """
    theirs = load("s3prl.problem.asr.superb_sf").audio_snips_for_slot_filling
    found = {}
    with tempfile.TemporaryDirectory() as work:
        try:
            train, valid, tests = theirs(work, None, str(corpus), *voices.values())
        except AssertionError:
            unknown = ["an utterance has another number of words than of tags once s3prl has cleaned it"]
            raise DataError(summary(corpus / TEXTS, uneven or unknown)) from None
        for name, path in zip(SETS, (train, valid, *tests), strict=True):
            with path.open(encoding="utf-8", newline="") as file:
                found[name] = [
                    Utterance(row["id"], row["wav_path"], marked(row["transcription"], row["iob"]), row["speaker"])
                    for row in csv.DictReader(file)
                ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = find_corpus(args.corpus.resolve())
    texts, uneven = check_texts(corpus / TEXTS)
    settings = problem("SuperbSF").default_config()["prepare_data"]
    voices = {name: settings[f"{folder}_speakers"] for name, folder in SETS.items()}
    check_sets(corpus, texts, voices)
    for name, utts in reversed(read(corpus, voices, uneven).items()):
        if len(utts) != OFFICIAL[name]:
            print(f"WARNING: {name} has {len(utts)} utterances, the release {OFFICIAL[name]}", file=sys.stderr)
        DataDir(args.out / name, utts).write(args.out / name)
        print(f"{args.out / name}: {len(utts)} utterances, voices: {', '.join(sorted({u.speaker for u in utts}))}")
    return 0


if __name__ == "__main__":
    run_script(main)
