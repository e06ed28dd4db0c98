"""``s3router shrink``: a trained model without the hidden units and attention heads that its masks remove.

s3router shrink es.pack -o es-small --onnx
s3router shrink exp/en_small -o en-small          (trained with --mask_conf granularity=group)

A plain model, as ``s3router bake`` writes it, but with fewer rows and columns in place of zeros.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from s3router.cli import bake


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand: those of ``bake``."""
    return bake.parser("shrink", __doc__)


def main(argv: Sequence[str]) -> int:
    """Shrink, and say what was written."""
    return bake.written(parser().parse_args(argv), smaller=True)
