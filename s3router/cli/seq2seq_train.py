"""``s3router seq2seq-train``: adapt a whole recogniser (Whisper). Called again, it resumes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    from s3router.seq2seq import options

    return options.parser()


def main(argv: Sequence[str]) -> int:
    """Train; the last validation is where an interrupted run goes on."""
    from s3router.seq2seq.options import read_options

    options = read_options(argv)
    from s3router.seq2seq.train import train
    from s3router.training import logs

    with logs.to_files(options.output_dir / "train.log"):
        train(options)
    return 0
