"""``s3router superb-submit``: the predictions of trained tasks as one submission to SUPERB, checked.

    s3router superb-submit --ks egs/superb/ks1/exp/NAME --pr egs/superb/pr1/exp/NAME -o submission

writes submission/predict.zip, report.json (the track, and how each task was trained) and lists/ (the entries of the
test sets, as far as the experiments know them). Any subset of the tasks will do. With a problem, no zip is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    from s3router.submission.formats import TASK_NAMES

    result = argparse.ArgumentParser(
        prog="s3router superb-submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    for name in TASK_NAMES:
        folds = "one of each of the five folds" if name == "er" else "exp/NAME, or its predict_SET where it has several"
        add(f"--{name}", nargs="+", type=Path, default=[], metavar="EXP", help=folds)
    add("-o", "--output", type=Path, required=True, help="folder")
    add("--list", nargs="+", default=[], metavar="TASK=PATH", help="list of a test set, as for superb-check")
    add("--max-problems", type=int, default=20, help="printed per part; 0: all (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Find, zip, check, print."""
    args = parser().parse_args(argv)
    from s3router.cli.superb_check import given_lists
    from s3router.submission.build import build, find_sources
    from s3router.submission.formats import TASK_NAMES
    from s3router.submission.report import lines

    given = {name: getattr(args, name.replace("-", "_")) for name in TASK_NAMES}
    path, verdict, record = build(find_sources(given), args.output, given_lists(args.list))
    print("\n".join(lines(verdict, path, record, args.max_problems)))
    if verdict.total:
        before = "; the one that is there is older" if path.exists() else ""
        print(f"superb-submit: {path} was not written: see the problems above{before}", file=sys.stderr)
        return 1
    return 0
