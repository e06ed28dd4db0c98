"""``s3router validate``: is a data directory fit for training or testing? Writes nothing.

Prints one line per problem (what, where, what to do), and exits with status 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from s3router.data.tokens import TOKEN_TYPES, TokenIds, read_token_list
from s3router.data.validate import validate


def add_token_options(parser: argparse.ArgumentParser, meaning: str) -> None:
    """``--token-list``, ``--token-type``, ``--bpe-model``."""
    add = parser.add_argument
    add("--token-list", help=meaning)
    add("--token-type", default="char", choices=TOKEN_TYPES, help="of the list (%(default)s)")
    add("--bpe-model", help="sentencepiece model, for --token-type bpe")


def tokens_of(args: argparse.Namespace) -> TokenIds | None:
    """What `add_token_options` was told; raises ConfigError or DataError."""
    if not args.token_list:
        return None
    return TokenIds(read_token_list(args.token_list), args.token_type, args.bpe_model)


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router validate", description=__doc__)
    add = result.add_argument
    add("dir", metavar="DIR", help="data directory: wav.scp, text and, if there are any, segments, utt2spk, utt2dur")
    add_token_options(result, "transcripts must be made of its tokens")
    add("--unknown-ok", action="store_true", help="only note tokens outside the list (test sets)")
    add("--no-text", action="store_true", help="the directory needs no transcripts")
    add("--max-seconds", type=float, help="longer utterances are a problem")
    add("--min-frames", type=int, default=1, help="of 20 ms; shorter utterances are a problem (%(default)s)")
    add("--sample-rate", type=int, help="the files must have this rate themselves")
    add("--nj", type=int, default=os.cpu_count() or 1, help="threads that decode (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Check, and print what was found."""
    args = parser().parse_args(argv)
    report = validate(
        args.dir,
        tokens_of(args),
        need_text=not args.no_text,
        unknown_is_problem=not args.unknown_ok,
        max_seconds=args.max_seconds,
        min_frames=args.min_frames,
        sample_rate=args.sample_rate,
        nj=args.nj,
    )
    for note in report.notes:
        print(f"{args.dir}: note: {note}", file=sys.stderr)
    for problem in report.problems:
        print(f"{args.dir}: {problem}", file=sys.stderr)
    count = len(report.data.utts)
    if report.problems:
        print(
            f"{args.dir}: not fit, problems: {len(report.problems)}; utterances without one: {count}", file=sys.stderr
        )
        return 1
    print(f"{args.dir}: fit, {count} utterances, {report.data.seconds / 60:.1f} min")
    return 0
