"""``s3router prepare-mini NAME OUT``: miniatures of corpora in their official layouts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.miniatures import (
    mini_commonvoice,
    mini_librispeech,
    mini_ml_superb,
    superb_classes,
    superb_pairs,
    superb_sequences,
)
from s3router.miniatures.sentences import PARTS

SUPERB = {
    "ks": (superb_classes.speech_commands, "Speech Commands v1"),
    "ic": (superb_classes.fluent, "Fluent Speech Commands"),
    "sid": (superb_classes.voxceleb, "VoxCeleb1, for identification"),
    "er": (superb_classes.iemocap, "IEMOCAP"),
    "pr": (superb_sequences.phonemes, "LibriSpeech with a lexicon"),
    "asr": (superb_sequences.libri, "LibriSpeech, three parts"),
    "sf": (superb_sequences.snips, "Audio SNIPS"),
    "sv": (superb_pairs.voxceleb, "VoxCeleb1, for verification"),
    "sd": (superb_pairs.librimix, "LibriMix"),
    "qbe": (superb_pairs.quesst, "QUESST 2014"),
}
"""Task -> maker, corpus."""


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand for each miniature."""
    top = argparse.ArgumentParser(
        prog="s3router prepare-mini",
        usage="s3router prepare-mini NAME OUT [OPTIONS]",
        description="Make a miniature of a corpus in its official layout, to try a recipe out. The voices are "
        "espeak-ng's; figures on it mean nothing.",
    )
    names = top.add_subparsers(dest="name", required=True, metavar="NAME", title="miniatures")

    def add(name: str, meaning: str) -> argparse.ArgumentParser:
        made = names.add_parser(name, help=meaning, description=meaning, prog=f"s3router prepare-mini {name}")
        made.add_argument("out", type=Path, metavar="OUT", help="folder to write")
        return made

    made = add("librispeech", "LibriSpeech, Libri-light's subsets and the language model")
    made.add_argument("--utterances", type=int, default=2, metavar="N", help="of each speaker (%(default)s)")
    made = add("commonvoice", "a Common Voice release")
    made.add_argument("--langs", nargs="+", default=sorted(PARTS), choices=sorted(PARTS), metavar="LANG",
                      help="locales (%(default)s)")  # fmt: skip
    made.add_argument("--clips", type=int, default=40, metavar="N", help="for training, per language (%(default)s)")
    made.add_argument("--layout", choices=sorted(mini_commonvoice.COLUMNS), default="new",
                      help="columns of the tables (%(default)s)")  # fmt: skip
    made = add("ml_superb", "ML-SUPERB 2.0, in either layout")
    made.add_argument("--layout", choices=mini_ml_superb.LAYOUTS, default=mini_ml_superb.LAYOUTS[0],
                      help="files, as in the archive, or a HuggingFace dataset (%(default)s)")  # fmt: skip
    made.add_argument("--langs", nargs="+", default=list(mini_ml_superb.LOCALES), choices=mini_ml_superb.LOCALES,
                      metavar="LANG", help="languages (%(default)s)")  # fmt: skip
    made.add_argument("--clips", type=int, default=12, metavar="N", help="for training, per language (%(default)s)")
    for name, (_, corpus) in SUPERB.items():
        add(name, f"{corpus} (SUPERB {name})")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = parser().parse_args(argv)
    if args.name == "librispeech":
        print(mini_librispeech.librispeech(args.out, args.utterances))
    elif args.name == "commonvoice":
        print(mini_commonvoice.commonvoice(args.out, args.langs, args.clips, args.layout))
    elif args.name == "ml_superb":
        print(mini_ml_superb.ml_superb(args.out, args.layout, args.langs, args.clips))
    else:
        make, corpus = SUPERB[args.name]
        make(args.out)
        print(f"{args.out}: a miniature of {corpus}")
    return 0
