#!/usr/bin/env python3
"""LibriSpeech in its official layout -> Kaldi directories train, dev and test (called by local/data.sh)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import librispeech

from s3router.errors import run_script


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    librispeech.write(args.out, librispeech.read(args.corpus.resolve()))
    return 0


if __name__ == "__main__":
    run_script(main)
