"""``s3router superb-check``: check that the benchmark can score a submission to SUPERB; every line is read.

    s3router superb-check submission/predict.zip
    s3router superb-check predict.zip --list ks=data/test sv=veri_test.txt

Status 0: nothing is wrong. 1: something is; each problem is named by file and line.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router superb-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("archive", type=Path, metavar="ZIP", help="predict.zip")
    add("--lists", type=Path, metavar="DIR", help="lists of the test sets (default: lists/ beside ZIP, where it is)")
    words = "list of a test set: a Kaldi directory, or a file with one id per line; er1 … er5 for the folds"
    add("--list", nargs="+", default=[], metavar="TASK=PATH", help=words)
    add("--max-problems", type=int, default=20, help="printed per part; 0: all (%(default)s)")
    return result


def given_lists(pairs: Sequence[str]) -> dict:
    """``["ks=data/test"]`` -> {"ks_public": the list}. Raises ConfigError."""
    from s3router.submission.expected import read_list
    from s3router.submission.formats import PARTS

    folders = {
        f"er{folder[len('er_fold')]}" if part.name == "er" else part.name: folder for folder, part in PARTS.items()
    }
    found = {}
    for text in pairs:
        name, _, path = text.partition("=")
        if name not in folders or not path or folders[name] in found:
            raise ConfigError(f"--list {text}: expected TASK=PATH, each task once; tasks: {', '.join(folders)}")
        found[folders[name]] = read_list(path, PARTS[folders[name]])
    return found


def main(argv: Sequence[str]) -> int:
    """Check and print."""
    args = parser().parse_args(argv)
    from s3router.submission.check import check_submission
    from s3router.submission.expected import read_lists
    from s3router.submission.report import lines, track_of

    beside = args.archive.parent / "lists"
    folder = args.lists or (beside if beside.is_dir() else None)
    lists = {} if folder is None else read_lists(folder)
    verdict = check_submission(args.archive, lists | given_lists(args.list))
    record, reason = track_of(args.archive)
    print("\n".join(lines(verdict, args.archive, record, args.max_problems, reason)))
    return 1 if verdict.total else 0
