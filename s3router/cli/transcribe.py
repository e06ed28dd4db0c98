"""``s3router transcribe``: text of recordings, by the route of their language, or by the one that is surest.

s3router transcribe --routes exp/routes/*.pack --lang es a.wav b.flac
s3router transcribe --routes exp/routes/*.pack --lang auto --json recordings/ more/wav.scp
s3router transcribe --routes exp/routes/*.pack --lang auto --langid langid.pack recordings/
s3router transcribe --routes exp/routes/*.pack --score es=data/es/test en=data/en/test --output-dir exp/routed
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.cli import route_options
from s3router.cli.route_options import warn
from s3router.errors import ConfigError
from s3router.serving.choice import AUTO, candidates

if TYPE_CHECKING:
    from s3router.api.router import Router
    from s3router.serving.transcribe import Ranking, Transcript


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router transcribe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    route_options.add_inputs(result)
    route_options.add_model(result)
    route_options.add_chunks(result)
    add = result.add_argument
    add("--lang", help="a route, or auto: the surest of them (default: the only route there is)")
    classifier = "--lang auto by a classifier (s3router langid --fit) instead: a part of one pass for all routes"
    add("--langid", type=Path, metavar="PACK", help=classifier)
    add(
        "--best",
        type=int,
        default=1,
        metavar="K",
        help="--langid in doubt: so many routes decode (%(default)s)",
    )
    add("--sure", type=float, default=0.9, help="probability from which on --langid is not in doubt (%(default)s)")
    add("--among", nargs="+", metavar="ROUTE", help="the candidates of --lang auto (default: all routes)")
    form = result.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line, with the confidence of each route")
    form.add_argument("--kaldi", action="store_true", help="lines as in Kaldi's text: id, blank, words")
    score = "transcribe data directories and score them, instead of inputs"
    add("--score", nargs="+", action="extend", metavar="LANG=DIR", help=score)
    add("--output-dir", type=Path, help="where --score writes decode_LANG/, as s3router decode does")
    return result


def main(argv: Sequence[str]) -> int:
    """Load the packs, transcribe, print."""
    args = route_options.parse(parser(), argv)
    if bool(args.inputs) == bool(args.score):
        raise ConfigError("name recordings to transcribe, or --score LANG=DIR ... (and not both)")
    if args.score:
        unheeded = ("langid", "best", "sure", "among", "json", "kaldi", "output", "skip_bad")
        route_options.not_with_score(args, parser(), unheeded)
        return _score(args)
    if args.langid and args.lang != AUTO:
        raise ConfigError("--langid finds the language of --lang auto; leave it out, or add --lang auto")
    if args.best != 1 and not args.langid:
        raise ConfigError("--best is for --langid in doubt; name a classifier, or leave it out")
    inputs = route_options.Inputs(args)
    if args.kaldi and (bad := [utt.utt for utt in inputs.recordings if len(utt.utt.split()) != 1]):
        raise ConfigError(f"--kaldi: {bad[0]!r} cannot be an id, since it has blanks in it; take --json, or rename it")
    router = route_options.router(args)
    routes = candidates(router.model.transcribing, args.lang, args.among or (), said=("--lang", "--among"))
    found = _found(router, routes, inputs)
    found = route_options.with_progress(found, len(inputs.recordings), printed=args.output is None)
    route_options.write((_line(transcript, args) for transcript in inputs.in_order(found)), args.output)
    return inputs.report()


def _found(router: Router, routes: Sequence[str], inputs: route_options.Inputs) -> Iterator[tuple[int, Transcript]]:
    from s3router.serving.transcribe import ranking_of

    ranking = ranking_of(router.model, routes)
    if router.classifier is None or len(routes) == 1:
        _warn(ranking, routes)
    return router.hear(inputs.recordings, routes, ranking, inputs.bad)


def _warn(ranking: Ranking, candidates: Sequence[str]) -> None:
    """Of routes that are not worth much, and of languages that are guessed badly."""
    for route, rate in ranking.weak.items():
        last = len(candidates) > len(ranking.weak)
        taken = ", and is taken only where no better route hears anything" if last else ""
        warn(f"route {route} has {100 * rate:.0f} % errors on its development set{taken}; train it longer")
    if len(candidates) > 1 and not ranking.calibrated:
        by = "their error rates are used instead" if ranking.offsets else "the language is guessed badly"
        warn(
            f"not all packs say how sure their route usually is, so {by}; s3router langid --dev ... --store measures "
            "and stores it"
        )


def _line(transcript: Transcript, args: argparse.Namespace) -> str:
    if args.kaldi:
        return f"{transcript.utt} {transcript.text}".rstrip()
    if not args.json:
        lang = [transcript.route] if args.lang == AUTO else []
        return "\t".join([route_options.cell(transcript.utt), *lang, transcript.text])
    scores = {route: round(value, 4) if math.isfinite(value) else None for route, value in transcript.scores.items()}
    values = {"id": transcript.utt, "source": transcript.source, "lang": transcript.route, "text": transcript.text}
    return json.dumps(values | {"seconds": round(transcript.seconds, 3), "scores": scores}, ensure_ascii=False)


def _score(args: argparse.Namespace) -> int:
    """Every data directory under its own route, all with one resident model."""
    from s3router.asr.decode_output import write_output
    from s3router.data.kaldi import DataDir
    from s3router.serving.transcribe import decode_directory

    if args.output_dir is None or args.lang is not None:
        raise ConfigError("--score needs --output-dir, and no --lang: each directory is named with its own")
    options = route_options.batch_options(args)
    sets = {
        lang: DataDir.read(path).with_durations() for lang, path in route_options.pairs(args.score, "--score").items()
    }
    model = route_options.load(args)
    for lang in sets:
        model.text_head(lang)
    for lang, data in sets.items():
        found, tokens = decode_directory(model, lang, data, options)
        extra = {"route": lang, "packs": [str(path) for path in args.routes], "bf16": options.bf16}
        folder = args.output_dir / f"decode_{lang}"
        result = write_output(folder, data, found, tokens, extra | {"device": args.device})
        rates = ("per",) if "per" in result else ("wer", "cer")
        shown = ", ".join(f"{rate.upper()} {100 * result[rate]:.2f} %" for rate in rates)
        speed = f"{result['times_real_time']:.0f} times real time"
        print(f"{lang}: {shown}, {result['n_utts']} utterances, {speed} -> {folder}")
    return 0
