"""``s3router inspect``: the contents of mask packs. The backbone is not needed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router inspect", description=__doc__)
    result.add_argument("packs", nargs="+", type=Path, metavar="PACK", help="files that s3router pack has written")
    form = result.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as JSON: a list with one object per pack")
    form.add_argument(
        "--table", action="store_true", help="one row per pack: sparsity, learning rate, bits per weight, WER"
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Read the packs, checksums included, and print."""
    args = parser().parse_args(argv)
    from s3router.packs import summary

    found = [summary.figures(path) for path in args.packs]
    if args.json:
        print(json.dumps(found, indent=2))
    elif args.table:
        print(summary.table(found))
    else:
        print("\n\n".join(summary.page(each) for each in found))
    return 0
