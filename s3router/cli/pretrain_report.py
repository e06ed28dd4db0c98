"""``s3router pretrain-report``: what a pretrained upstream is worth on speech that it has not learnt from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="s3router pretrain-report",
        description="Write report.json beside the log of a pretraining: held-out loss and accuracy and, with "
        "--aligner, character purity of the hidden states.",
    )
    made.add_argument("--config", type=Path, required=True, help="what s3router pretrain was given")
    made.add_argument("--exp", type=Path, required=True, help="what s3router pretrain wrote")
    made.add_argument("--aligner", type=Path, metavar="EXP", help="ASR experiment of one language; goes with --data")
    made.add_argument("--data", type=Path, metavar="DIR", help="that language's data: train_5min/ and dev/")
    made.add_argument("--install", type=Path, metavar="DIR", help="copy the model here, with a model card")
    made.add_argument("--card", type=Path, metavar="FILE", help="template of the model card; goes with --install")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = parser().parse_args(argv)
    for one, other in (("aligner", "data"), ("install", "card")):
        if (getattr(args, one) is None) != (getattr(args, other) is None):
            parser().error(f"--{one} and --{other} go together")
    from s3router.pretraining.report import install, report
    from s3router.pretraining.settings import Settings

    settings = Settings.read(args.config)
    found = report(args.exp, args.aligner, args.data)
    print(json.dumps(found, indent=2))
    if args.install:
        size = install(found, args.exp, settings, args.card, args.install)
        print(f"installed in {args.install}: {size / 1e6:.1f} MB")
    return 0
