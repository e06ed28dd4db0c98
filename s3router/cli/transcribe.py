"""``s3router transcribe``: any recordings, under the route of their language, or under the one that is surest.

s3router transcribe --routes exp/routes/*.pack --lang es a.wav b.flac
s3router transcribe --routes exp/routes/*.pack --lang auto --json recordings/ more/wav.scp
s3router transcribe --routes exp/routes/*.pack --score es=data/es/test en=data/en/test --output-dir exp/routed
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.cli import routes
from s3router.errors import ConfigError
from s3router.files import write_lines

if TYPE_CHECKING:
    from s3router.serving.transcribe import Transcript

AUTO = "auto"


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router transcribe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = result.add_argument
    what = "audio files, folders, wav.scp files, Kaldi data directories"
    add("inputs", nargs="*", metavar="INPUT", help=what)
    routes.add_options(result)
    add("--lang", help="a route, or auto: the surest of them (default: the only route there is)")
    add("--among", nargs="+", metavar="ROUTE", help="the candidates of --lang auto (default: all routes)")
    form = result.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line, with the confidence of each route")
    form.add_argument("--kaldi", action="store_true", help="lines as in Kaldi's text: id, blank, words")
    add("--output", type=Path, help="a file instead of the screen, whole or not at all")
    add("--score", nargs="+", metavar="LANG=DIR", help="transcribe data directories and score them, instead of inputs")
    add("--output-dir", type=Path, help="where --score writes decode_LANG/, as s3router decode does")
    return result


def main(argv: Sequence[str]) -> int:
    """Load the packs, transcribe, print."""
    args = parser().parse_intermixed_args(argv)
    if bool(args.inputs) == bool(args.score):
        raise ConfigError("name recordings to transcribe, or --score LANG=DIR ... (and not both)")
    if args.score:
        return _score(args)
    from s3router.data.recordings import find_recordings

    options = routes.batch_options(args)
    recordings = find_recordings(args.inputs)
    model = routes.load(args)
    candidates = _candidates(args, model.routes)
    from s3router.serving.transcribe import transcribe, usual_confidences

    if len(candidates) > 1 and not usual_confidences(model, candidates):
        print(
            "warning: not all packs say how sure their route usually is, so the language is guessed badly; "
            "s3router langid --dev ... --store measures and stores it",
            file=sys.stderr,
        )
    found = transcribe(model, recordings, candidates, options)
    found = routes.with_progress(found, len(recordings), printed=args.output is None)
    lines = (_line(transcript, args) for transcript in _in_order(found))
    if args.output:
        write_lines(args.output, lines)
    else:
        for line in lines:
            print(line, flush=True)
    return 0


def _candidates(args: argparse.Namespace, known: Sequence[str]) -> list[str]:
    if args.among and args.lang != AUTO:
        raise ConfigError("--among names the candidates of --lang auto; leave it out, or add --lang auto")
    if args.lang == AUTO:
        return list(dict.fromkeys(args.among or known))
    if args.lang is None and len(known) > 1:
        raise ConfigError(f"--lang is missing; known: {', '.join(known)}, or auto")
    return [known[0] if args.lang is None else args.lang]


def _in_order(found: Iterator[tuple[int, Transcript]]) -> Iterator[Transcript]:
    """In the order of the inputs, each as soon as all before it are there."""
    waiting, following = {}, 0
    for index, transcript in found:
        waiting[index] = transcript
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _line(transcript: Transcript, args: argparse.Namespace) -> str:
    if args.kaldi:
        return f"{transcript.utt} {transcript.text}".rstrip()
    if not args.json:
        lang = [transcript.route] if args.lang == AUTO else []
        return "\t".join([transcript.utt, *lang, transcript.text])
    scores = {route: round(value, 4) if math.isfinite(value) else None for route, value in transcript.scores.items()}
    values = {"id": transcript.utt, "source": transcript.source, "lang": transcript.route, "text": transcript.text}
    return json.dumps(values | {"seconds": round(transcript.seconds, 3), "scores": scores}, ensure_ascii=False)


def _score(args: argparse.Namespace) -> int:
    """Every data directory under its own route, all with one resident model."""
    from s3router.asr.ctc_decode import GreedySearch
    from s3router.asr.decode import decode, write_output
    from s3router.data.kaldi import DataDir

    if args.output_dir is None or args.lang is not None:
        raise ConfigError("--score needs --output-dir, and no --lang: each directory is named with its own")
    options = routes.batch_options(args)
    sets = {lang: DataDir.read(path).with_durations() for lang, path in routes.pairs(args.score, "--score").items()}
    model = routes.load(args)
    singles = {lang: model.single(lang) for lang in sets}
    for lang, data in sets.items():
        single = singles[lang]
        found = decode(single, single.ctc.tokens, data, GreedySearch(), options)
        extra = {"route": lang, "packs": [str(path) for path in args.routes], "bf16": options.bf16}
        folder = args.output_dir / f"decode_{lang}"
        result = write_output(folder, data, found, single.ctc.tokens, extra | {"device": args.device})
        print(
            f"{lang}: WER {100 * result['wer']:.2f} %, CER {100 * result['cer']:.2f} %, {result['n_utts']} utterances, "
            f"{result['times_real_time']:.0f} times real time -> {folder}"
        )
    return 0
