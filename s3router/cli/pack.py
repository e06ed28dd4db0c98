"""``s3router pack``: what an experiment has learnt, its head and its tokens or labels in one file, a pack.

s3router pack exp/es -o es.pack
s3router pack es=exp/es_router en=exp/en_router -o exp/routes     # many: exp/routes/es.pack and exp/routes/en.pack
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from s3router.cli.route_options import pairs
from s3router.errors import ConfigError
from s3router.packs.contents import CODECS


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    what = "what s3router train, seq2seq-train or superb-train wrote; of several, each ROUTE=EXP_DIR"
    add("exp_dirs", nargs="+", metavar="EXP_DIR", help=what)
    add("-o", "--output", type=Path, required=True, help="the pack, for example es.pack; of several, their folder")
    add("--route", help="name of the language or task (default: the pack's name without its ending)")
    what = "coded: the smallest; gaps: nearly as small, and faster to load; bits: needs no backbone (%(default)s)"
    add("--codec", choices=CODECS, default="bits", help=what)
    wide = "keep trained weights and adapters in float32 (default: float16, half the bytes)"
    add("--float32", action="store_true", help=wide)
    add("--checkpoint", help="a file in EXP_DIR, or a path (default: the best one on the validation set)")
    add("--corpus", default="", help="what it was trained on (default: the end of the training directory's path)")
    add("--licence", "--license", default="", help="of the pack")
    results = "for example test:cer=0.05; those of EXP_DIR/decode_*/result.json are taken by themselves"
    add("--metric", action="append", default=[], metavar="SET:NAME=VALUE", help=results)
    return result


def metrics(given: Sequence[str]) -> dict[str, dict[str, float]]:
    """``["test:cer=0.05"]`` -> {"test": {"cer": 0.05}}. Raises ConfigError where one is not of that form."""
    found: dict[str, dict[str, float]] = {}
    for text in given:
        name, _, rest = text.partition(":")
        metric, _, value = rest.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not metric or not math.isfinite(number):
            raise ConfigError(f"--metric {text}: expected SET:NAME=VALUE, as in test:cer=0.05")
        found.setdefault(name, {})[metric] = number
    return found


def main(argv: Sequence[str]) -> int:
    """Open the experiments, write the packs, read them back."""
    args = parser().parse_args(argv)
    more = metrics(args.metric)
    for route, folder, output in _wanted(args):
        _pack(args, route, folder, output, more)
    return 0


def _wanted(args: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """(route, experiment, pack) of each; raises ConfigError."""
    first = args.exp_dirs[0]
    if len(args.exp_dirs) == 1 and (Path(first).exists() or "=" not in first):
        return [(args.route or args.output.stem, Path(first), args.output)]
    if args.route or args.checkpoint:
        raise ConfigError("--route and --checkpoint are for one experiment; of several, each is ROUTE=EXP_DIR")
    if args.output.suffix == ".pack" or args.output.is_file():
        raise ConfigError(f"-o {args.output}: of several experiments the packs' folder is wanted")
    named = pairs(args.exp_dirs, "EXP_DIR", "ROUTE", "es=exp/es_router")
    return [(route, folder, args.output / f"{route}.pack") for route, folder in named.items()]


def _pack(args: argparse.Namespace, route: str, folder: Path, output: Path, more: dict) -> None:
    from s3router.packs import summary
    from s3router.serving.opening import open_experiment
    from s3router.serving.packing import write_experiment
    from s3router.training.logs import errors_only

    exp = open_experiment(folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    with errors_only():  # not ESPnet's remarks while it builds the model
        written = write_experiment(
            *(output, exp, route, args.codec, args.checkpoint, args.float32),
            **{"corpus": args.corpus, "licence": args.licence, "metrics": more},
        )
    print(summary.page(summary.figures(output)))
    if written.kept is not None:
        print(f"kept of the pack that was there: usual confidence {written.kept:.3f} (s3router langid --store)")
    if written.lost is not None:
        print(
            f"warning: the pack that was there held the usual confidence of another model of route {route}; measure it "
            f"again: s3router langid --routes {output} --dev {route}=DIR --store",
            file=sys.stderr,
        )
