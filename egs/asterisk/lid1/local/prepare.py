#!/usr/bin/env python3
"""The prepared prompts of five languages -> Kaldi directories whose labels are the languages (called by local/data.sh).

The sides of ../asr1 hold: which prompts are for training, development and test is decided by their name alone, so the
same sentence is on the same side in every language.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s3router.data.kaldi import DataDir
from s3router.data.utt2label import write_labelled
from s3router.errors import run_script

LANGUAGES = ("en", "es", "fr", "it", "ru")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, required=True, help="data folder of ../asr1")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for side in ("test", "dev", "train"):
        utts, labels = [], {}
        for lang in LANGUAGES:
            found = DataDir.read(args.prompts / lang / side).utts
            utts += found
            labels.update({utt.utt: (lang,) for utt in found})
        write_labelled(args.out / side, utts, labels)
        counts = ", ".join(f"{lang} {list(labels.values()).count((lang,))}" for lang in LANGUAGES)
        print(f"{args.out / side}: {len(utts)} prompts ({counts})")
    return 0


if __name__ == "__main__":
    run_script(main)
