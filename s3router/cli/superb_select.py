"""``s3router superb-select``: of several runs of a task, link the one with the best validation result."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router superb-select", description=__doc__)
    result.add_argument("folders", nargs="+", type=Path, help="output folders of superb-train")
    result.add_argument("--output", type=Path, required=True, help="the link to make, beside the folders")
    return result


def main(argv: Sequence[str]) -> int:
    """Compare, link, print."""
    args = parser().parse_args(argv)
    from s3router.superb.select import link_best

    print("\n".join(link_best(args.folders, args.output)))
    return 0
