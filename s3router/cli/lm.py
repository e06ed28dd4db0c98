"""``s3router lm``: estimate an n-gram language model from Kaldi text files, for beam search."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Sequence
from pathlib import Path

from s3router.asr.lm import UNITS, estimate, units, write_arpa
from s3router.scoring.files import read_text


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router lm", description=__doc__)
    result.add_argument("--text", type=Path, required=True, nargs="+", help="Kaldi text files of training transcripts")
    result.add_argument("--unit", choices=UNITS, default="char", help="what the model predicts (%(default)s)")
    result.add_argument("--order", type=int, default=5, help="longest n-gram (%(default)s)")
    result.add_argument("--output", type=Path, required=True, help="ARPA file to write")
    return result


def main(argv: Sequence[str]) -> int:
    """Estimate the model and write it."""
    args = parser().parse_args(argv)
    sentences = [units(text, args.unit) for path in args.text for text in read_text(path).values()]
    probabilities = estimate(sentences, args.order)
    write_arpa(args.output, probabilities)
    sizes = collections.Counter(map(len, probabilities))
    print(f"{args.output}: {len(sentences)} sentences, n-grams " + ", ".join(f"{n}: {sizes[n]}" for n in sorted(sizes)))
    return 0
