"""``s3router presets``: the training configuration of a method, a subset and an upstream, out of a recipe's presets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s3router.training.presets import write_composed


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router presets", description=__doc__)
    result.add_argument("presets", type=Path, help="for example conf/presets.yaml")
    result.add_argument("--method", required=True, help="router, weight, frozen or scratch")
    result.add_argument("--subset", required=True, help="labelled part of the corpus")
    result.add_argument("--upstream", required=True, help="name of the upstream")
    result.add_argument("--output", type=Path, required=True, help="YAML file to write")
    return result


def main(argv: Sequence[str]) -> int:
    """Compose the configuration and write it."""
    args = vars(parser().parse_args(argv))
    write_composed(args.pop("presets"), args.pop("output"), **args)
    return 0
