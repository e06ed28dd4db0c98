"""``s3router format-wav``: out of any data directory one of mono wav and flac files at 16 kHz, as ESPnet reads them.

Pipes, archives, segments and other formats and rates are decoded to NEW_DIR/wav; files that fit already stay where they
are. Utterances that cannot be used are left out, and listed with the reason in NEW_DIR/left_out.tsv. Labels
(utt2label), turns (rttm) and trials of the others go along.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from s3router.cli.validate import add_token_options, tokens_of
from s3router.data.audio import SAMPLE_RATE
from s3router.data.format_wav import format_dir
from s3router.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router format-wav", description=__doc__)
    add = result.add_argument
    add("source", metavar="DIR", help="a data directory")
    add("target", metavar="NEW_DIR", help="the data directory to write; called again, it goes on")
    add_token_options(result, "leave out what has more tokens than CTC has frames")
    add("--no-text", action="store_true", help="the directory needs no transcripts")
    add("--max-seconds", type=float, help="leave out longer utterances")
    add("--min-frames", type=int, default=1, help="of 20 ms; leave out shorter utterances (%(default)s)")
    add("--sample-rate", type=int, default=SAMPLE_RATE, help="of the files, in Hz (%(default)s)")
    add("--nj", type=int, default=os.cpu_count() or 1, help="threads (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Format, and say what was left out."""
    args = parser().parse_args(argv)
    for option in ("sample_rate", "nj", "min_frames"):
        if getattr(args, option) < 1:
            raise ConfigError(f"--{option.replace('_', '-')} {getattr(args, option)}: a whole number above 0 is needed")
    if args.max_seconds is not None and not args.max_seconds > 0:
        raise ConfigError(f"--max-seconds {args.max_seconds:g}: a number above 0 is needed")
    result = format_dir(
        args.source,
        args.target,
        tokens=tokens_of(args),
        need_text=not args.no_text,
        max_seconds=args.max_seconds,
        min_frames=args.min_frames,
        sample_rate=args.sample_rate,
        nj=args.nj,
        progress=True,
    )
    for utt, reason in result.left_out:
        print(f"{args.target}: left out {utt}: {reason}", file=sys.stderr)
    data = result.data
    print(f"{args.target}: {len(data.utts)} utterances, {data.seconds / 60:.1f} min; {len(result.left_out)} left out")
    return 0
