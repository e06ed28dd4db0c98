"""``s3router langid``: calibration and test of ``s3router transcribe --lang auto``: how often it picks the right route.

    s3router langid --routes exp/routes/*.pack --dev es=data/es/dev en=data/en/dev --store
    s3router langid --routes exp/routes/*.pack --test es=data/es/test en=data/en/test

With --dev, each route's usual confidence in its own language is measured first; --store writes it into the packs.
Without, the packs' own is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.cli import route_options
from s3router.errors import ConfigError
from s3router.files import write_json

if TYPE_CHECKING:
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.data.kaldi import Utterance
    from s3router.serving.routed_model import RoutedModel


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router langid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    route_options.add_model(result)
    route_options.add_chunks(result)
    add = result.add_argument
    add("--test", nargs="+", default=[], metavar="LANG=DIR", help="recordings whose language is known")
    add("--dev", nargs="+", default=[], metavar="LANG=DIR", help="each route's development data, of its own language")
    add("--store", action="store_true", help="write what --dev gave into the packs")
    add("--output", type=Path, help="a JSON file of everything that was measured")
    return result


def main(argv: Sequence[str]) -> int:
    """Measure, print, write."""
    args = parser().parse_args(argv)
    sets = {name: route_options.pairs(getattr(args, name), f"--{name}") for name in ("dev", "test")}
    if not any(sets.values()) or (args.store and not sets["dev"]):
        raise ConfigError("name --dev LANG=DIR ..., --test LANG=DIR ..., or both; --store needs --dev")
    if args.store and (folders := [path for path in args.routes if path.is_dir()]):
        raise ConfigError(f"--store writes into packs, and {folders[0]} is a folder; s3router pack makes a pack of it")
    options = route_options.batch_options(args)
    from s3router.data.recordings import find_recordings

    dev, test = ({lang: find_recordings([path]) for lang, path in sets[name].items()} for name in ("dev", "test"))
    model = route_options.load(args)
    for lang in (*dev, *test):
        model.ctc_head(lang)
    known = {*dev, *(route for route in model.transcribing if model.ctc_head(route).usual_confidence is not None)}
    if test and (lacking := [route for route in model.transcribing if route not in known]):
        raise ConfigError(f"the usual confidence of {', '.join(lacking)} is not known; measure it with --dev LANG=DIR")
    from s3router.serving import langid

    measured = {lang: langid.usual_confidence(model, lang, utts, options) for lang, utts in dev.items()}
    for lang, value in measured.items():
        print(f"{lang}: usual confidence {value:.3f} ({len(dev[lang])} recordings)")
    if args.store:
        _store(args.routes, measured, model)
    values: dict[str, Any] = {"usual_confidence": measured}
    if test:
        values |= _identify(model, test, measured, options)
    if args.output:
        write_json(args.output, values, indent=2)
    return 0


def _identify(
    model: RoutedModel, test: Mapping[str, Sequence[Utterance]], measured: Mapping[str, float], options: BatchOptions
) -> dict[str, Any]:
    """Guess the language of the test sets, and print how often that is right; returns what --output holds."""
    from s3router.serving import langid
    from s3router.serving.transcribe import Ranking, ranking_of

    offsets = {route: model.ctc_head(route).usual_confidence for route in model.transcribing} | {**measured}
    weak = ranking_of(model, model.transcribing).weak
    for route, rate in weak.items():
        route_options.warn(f"route {route} has {100 * rate:.0f} % errors on its development set, and is guessed last")
    ways = {"compared with usual": Ranking(offsets, True, weak), "as they are": Ranking()}
    found = langid.identify(model, test, ways, options)
    best = found["compared with usual"]
    print("\n".join(langid.table(best)))
    for name, other in found.items():
        print(f"right, confidences {name}: {100 * other.accuracy:.1f} %")
    print(
        f"{best.passes} passes through the transformer per utterance, 1 through the convolutions; "
        f"{best.audio_seconds:.0f} s of audio in {best.seconds:.1f} s"
    )
    return {
        "usual_confidence": offsets,
        "accuracy": {name: other.accuracy for name, other in found.items()},
        "counts": {name: other.counts for name, other in found.items()},
        "transformer_passes": best.passes,
        "audio_seconds": best.audio_seconds,
        "seconds": best.seconds,
    }


def _store(packs: Sequence[Path], measured: Mapping[str, float], model: RoutedModel) -> None:
    from s3router.packs.pack_file import read_parts
    from s3router.serving.langid import store_confidence

    for path in packs:
        route = read_parts(path).description.route
        if route in measured:
            store_confidence(path, measured[route], model)
            print(f"stored in {path}")
