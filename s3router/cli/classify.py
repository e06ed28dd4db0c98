"""``s3router classify``: labels for recordings, by trained classifiers.

s3router classify --routes ks.pack a.wav b.flac recordings/
s3router classify --routes ks.pack ic.pack --route ic --top 3 --json more/wav.scp
s3router classify --routes ks.pack ic.pack --score ks=data/ks/test ic=data/ic/test --output-dir exp/routed

A line is the recording, its label and how probable that is, with tabs between them; the route comes second where there
are several.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.cli import route_options
from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3router.serving.classify import Classified


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router classify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    route_options.add_inputs(result)
    route_options.add_model(result)
    add = result.add_argument
    which = "the tasks to classify by (default: all that --routes holds)"
    add("--route", nargs="+", action="extend", metavar="ROUTE", help=which)
    add("--top", type=int, default=1, metavar="N", help="a line for each of the N most probable labels (%(default)s)")
    add("--json", action="store_true", help="one JSON object per recording and route")
    score = "classify labelled directories and score them, not inputs"
    add("--score", nargs="+", action="extend", metavar="ROUTE=DIR", help=score)
    add("--output-dir", type=Path, help="where --score writes predict_ROUTE/, as s3router superb-predict does")
    add("--fold", type=int, choices=range(1, 6), default=1, help="of emotion recognition, for --score (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Load the packs, classify, print."""
    args = route_options.parse(parser(), argv)
    if bool(args.inputs) == bool(args.score):
        raise ConfigError("name recordings to classify, or --score ROUTE=DIR ... (and not both)")
    if args.top < 1:
        raise ConfigError(f"--top {args.top}: at least 1 is needed")
    if args.score:
        route_options.not_with_score(args, parser(), ("top", "json", "output", "skip_bad"))
        return _score(args)
    options = route_options.batch_options(args)
    inputs = route_options.Inputs(args)
    model = route_options.load(args)
    routes = list(dict.fromkeys(args.route or model.classifying))
    from s3router.serving.classify import classify

    found = classify(model, inputs.recordings, routes, args.top, options, inputs.bad)
    found = route_options.with_progress(found, len(inputs.recordings), printed=args.output is None)
    results = (result for several in inputs.in_order(found) for result in several)
    line = _json if args.json else lambda result: _lines(result, named=len(routes) > 1)
    route_options.write((text for result in results for text in line(result)), args.output)
    return inputs.report()


def _lines(result: Classified, named: bool) -> Iterator[str]:
    from s3router.data.utt2label import BETWEEN

    for label, probability in result.labels:
        route = [result.route] if named else []
        yield "\t".join([route_options.cell(result.utt), *route, BETWEEN.join(label), f"{probability:.4f}"])


def _json(result: Classified) -> Iterator[str]:
    from s3router.data.utt2label import BETWEEN

    labels = [{"label": BETWEEN.join(label), "confidence": round(p, 4)} for label, p in result.labels]
    values = {"id": result.utt, "source": result.source, "route": result.route, "seconds": round(result.seconds, 3)}
    yield json.dumps(values | {"labels": labels}, ensure_ascii=False)


def _score(args: argparse.Namespace) -> int:
    """Every labelled directory under its own route, all with one resident model."""
    if args.output_dir is None or args.route is not None:
        raise ConfigError("--score needs --output-dir, and no --route: each directory is named with its own")
    options = route_options.batch_options(args)
    sets = route_options.pairs(args.score, "--score", "ROUTE", "ks=data/test")
    model = route_options.load(args)
    from s3router.serving.classify import read_directory, score_directory

    labelled = {route: read_directory(model, route, folder) for route, folder in sets.items()}
    for route, data in labelled.items():
        result = score_directory(model, route, data, args.output_dir / f"predict_{route}", args.fold, options)
        print(f"{route}: accuracy {100 * result['accuracy']:.2f} % of {result['n_utts']}")
    return 0
