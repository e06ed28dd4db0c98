"""``s3router ml-superb-write``: languages of your own in a layout of ML-SUPERB 2.0, which its recipe reads.

    s3router ml-superb-write downloads/own ell=../../stamps/asr1/data/el cat=../../stamps/asr1/data/ca
    s3router ml-superb-write downloads/own --layout huggingface ell=data/el cat=data/ca

Each DIR holds the Kaldi directories train, dev and test, as stage 1 of a recipe leaves them. At most an hour of train
is taken, and ten minutes of it as the smaller subset. The HuggingFace dataset has no development set beside its dev,
which is only for figures: train and dev together are its train, and test is its dev.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.cli.route_options import pairs
from s3router.corpora.ml_superb_writing import LAYOUTS


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router ml-superb-write", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("out", type=Path, metavar="OUT", help="folder to write")
    add("languages", nargs="+", metavar="LANG=DIR", help="ISO 639-3 code, and the folder of its sets")
    add(
        "--layout",
        choices=LAYOUTS,
        default=LAYOUTS[0],
        help="files, or a HuggingFace dataset (%(default)s)",
    )
    add("--source", default="own", metavar="NAME", help="of the corpus, in the archive's paths (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Read, write, say how much there is."""
    args = parser().parse_args(argv)
    from s3router.corpora.ml_superb_writing import write_layout

    languages = pairs(args.languages, "the argument", example="ell=data/el")
    print(write_layout(args.out, languages, args.layout, args.source))
    return 0
