"""``s3router convert``: a set of recordings and texts in another form: Kaldi, NeMo, lhotse, HuggingFace datasets.

s3router convert data/train train.jsonl                       # a Kaldi directory -> a manifest of NeMo's
s3router convert train.jsonl train.jsonl.gz                   # -> cuts of lhotse's
s3router convert dataset data/train --to kaldi --split train  # what save_to_disk wrote -> a Kaldi directory
s3router convert data/train dataset --to hf

The source's content tells its form, the target's name its own, but for folders. The last two need the extra [data].
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    from s3router.data.convert import FORMATS

    add = result.add_argument
    add("source", type=Path, metavar="SOURCE", help="a Kaldi or dataset folder, a manifest, or cuts")
    add("target", type=Path, metavar="TARGET", help="a folder, *.jsonl (nemo) or *.jsonl.gz (lhotse)")
    add("--to", choices=FORMATS, help="form of the target (default: by its name)")
    add("--audio-column", default="audio", metavar="NAME", help="of a HuggingFace dataset (%(default)s)")
    add("--text-column", default="text", metavar="NAME", help="of a HuggingFace dataset (%(default)s)")
    add("--split", metavar="NAME", help="of a HuggingFace dataset with several")
    return result


def main(argv: Sequence[str]) -> int:
    """Convert, and say how much there is."""
    args = parser().parse_args(argv)
    from s3router.data.convert import convert

    columns = {"audio": args.audio_column, "text": args.text_column}
    data = convert(args.source, args.target, args.to, **columns, split=args.split)
    print(f"{args.target}: {len(data.utts)} utterances")
    return 0
