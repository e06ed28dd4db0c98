"""``s3router bake``: a pack and its backbone as one plain model, for use without s3router."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router bake", description=__doc__)
    add = result.add_argument
    add("pack", type=Path, metavar="PACK", help="a file that s3router pack has written")
    add("-o", "--output", type=Path, required=True, help="the folder to write: not there yet, or empty")
    add("--backbone", "--upstream-ckpt", help="the backbone's folder, file or repository (default: what the pack says)")
    add("--upstream", help="the backbone's name (default: what the pack says)")
    add("--onnx", action="store_true", help="also model.onnx: waveform -> log probabilities")
    return result


def main(argv: Sequence[str]) -> int:
    """Bake, and say what was written."""
    args = parser().parse_args(argv)
    from s3router.serving.bake import TOLERANCE, bake

    report = bake(args.pack, args.output, args.upstream, args.backbone, args.onnx)
    kinds = {
        "ctc": "a model for transformers.AutoModelForCTC",
        "backbone": "a model for transformers.AutoModel, its head, and ctc.py, which joins them",
        "s3prl": "a checkpoint for s3prl, and the head",
    }
    print(f"{args.output}: {kinds[report['kind']]}: {', '.join(report['files'])}")
    print(f"log probabilities are the router's within {TOLERANCE:g} (found {report['difference']:.1e})")
    if "onnx_difference" in report:
        print(f"model.onnx gives torch's within {TOLERANCE:g} (found {report['onnx_difference']:.1e})")
    return 0
