#!/usr/bin/env python3
"""Take about so many minutes of a Kaldi data directory: always the same ones, and smaller subsets inside larger."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3router.data.kaldi import DataDir
from s3router.errors import S3RouterError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("in_dir")
    parser.add_argument("out_dir")
    args = parser.parse_args()
    try:
        whole = DataDir.read(args.in_dir)
        part = whole.subset(args.minutes).write(args.out_dir)
    except S3RouterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.out_dir}: {len(part.utts)} of {len(whole.utts)} utterances, {part.seconds / 60:.2f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
