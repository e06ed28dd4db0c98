"""``s3router superb-table``: results of trained tasks as a table; the mean of five folds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router superb-table", description=__doc__)
    result.add_argument("exp_dirs", nargs="+", type=Path, metavar="EXP_DIR", help="folders that hold predict_SET/")
    result.add_argument("--folds", action="store_true", help="the folders are the five folds of one model")
    result.add_argument("--head", type=Path, help="a file whose text goes above the table")
    result.add_argument("--output", type=Path, help="write it to this file, too")
    return result


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it where asked."""
    args = parser().parse_args(argv)
    from s3router.files import write_lines
    from s3router.superb.table import folds, table

    lines = folds(args.exp_dirs) if args.folds else table(args.exp_dirs)
    if args.head:
        lines = [*args.head.read_text(encoding="utf-8").rstrip().splitlines(), "", *lines]
    print("\n".join(lines))
    if args.output:
        write_lines(args.output, lines)
    return 0
