"""``s3router bake``: a trained model as a plain one, for use without s3router.

s3router bake es.pack -o es-hubert --onnx
s3router bake exp/en_weight -o en-hubert          (an experiment of any method but houlsby)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser(command: str = "bake", description: str | None = __doc__) -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog=f"s3router {command}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    add("source", type=Path, metavar="PACK|EXP_DIR", help="a mask pack, or the folder of an experiment")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write: not there yet, or empty")
    where = "the backbone's folder, file or repository (default: what the source says)"
    add("--upstream-ckpt", "--backbone-ckpt", metavar="CKPT", help=where)
    add("--upstream", "--backbone", metavar="NAME", help="the backbone's name (default: what the source says)")
    add("--checkpoint", help="of an experiment: a file in it, or a path (default: the best on the validation set)")
    add("--onnx", action="store_true", help="also model.onnx: waveform -> log probabilities")
    return result


def main(argv: Sequence[str]) -> int:
    """Bake, and say what was written."""
    return written(parser().parse_args(argv))


def written(args: argparse.Namespace, smaller: bool = False) -> int:
    """Write the folder and say what is in it; ``smaller``: as of `s3router.serving.bake.bake`."""
    from s3router.serving.bake import TOLERANCE, bake

    report = bake(args.source, args.output, args.upstream, args.upstream_ckpt, args.onnx, args.checkpoint, smaller)
    made = f"a model for {report['class']}" if report.get("class") else "a model"
    kinds = {
        "ctc": "a model for transformers.AutoModelForCTC",
        "backbone": f"{made}, its head, and a program that joins them",
        "recogniser": "a model for transformers.WhisperForConditionalGeneration, with tokenizer and preprocessor",
        "s3prl": "a checkpoint for s3prl, and the head",
    }
    zeros = f", {report['zeros']:,} of them zero" if report["zeros"] else ""
    print(f"{args.output}: {kinds[report['kind']]}: {', '.join(report['files'])}")
    if smaller:
        from s3router.prune.shrink import layers_in_words

        print(f"{layers_in_words(report['shrunk'])}: {report['parameters_before']:,} parameters before")
    print(f"{report['bytes']:,} bytes; {report['parameters']:,} parameters{zeros}")
    print(f"outputs are the router's within {TOLERANCE:g} (found {report['difference']:.1e})")
    if "onnx_difference" in report:
        print(f"model.onnx gives torch's within {TOLERANCE:g} (found {report['onnx_difference']:.1e})")
    return 0
