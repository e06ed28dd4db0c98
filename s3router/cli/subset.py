"""``s3router subset``: about so many minutes of a data directory; always the same ones, smaller inside larger."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router subset", description=__doc__)
    result.add_argument("source", metavar="DIR", help="a data directory")
    result.add_argument("target", metavar="NEW_DIR", help="the data directory to write")
    result.add_argument("--minutes", type=float, required=True, help="how much to take, to the nearest utterance")
    return result


def main(argv: Sequence[str]) -> int:
    """Take the part and write it."""
    args = parser().parse_args(argv)
    if Path(args.source).resolve() == Path(args.target).resolve():
        raise ConfigError(f"{args.target}: the directory itself would be overwritten; name another one to write")
    whole = DataDir.read(args.source)
    part = whole.subset(args.minutes).write(args.target)
    print(f"{args.target}: {len(part.utts)} of {len(whole.utts)} utterances, {part.seconds / 60:.2f} min")
    return 0
