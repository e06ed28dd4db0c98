"""``s3router train``: train one ASR model; the same command goes on with it after an interruption."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand: ESPnet's and ours. The first call imports ESPnet, which takes seconds."""
    from s3router.asr.train import routed_task

    return routed_task().get_parser()


def main(argv: Sequence[str]) -> int:
    """Train; ESPnet's parser reads the options."""
    from s3router.asr.train import train

    train(argv)
    return 0
