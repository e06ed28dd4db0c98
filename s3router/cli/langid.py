"""``s3router langid``: how often ``s3router transcribe --lang auto`` picks the right route, and at what cost.

    s3router langid --routes exp/routes/*.pack --dev es=data/es/dev en=data/en/dev --store
    s3router langid --routes exp/routes/*.pack --test es=data/es/test en=data/en/test

With --dev, each route's usual confidence in its own language is measured first; --store writes it into the packs.
Without, the packs' own is used.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from s3router.cli import routes
from s3router.errors import ConfigError
from s3router.files import write_lines


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router langid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    routes.add_options(result)
    add = result.add_argument
    add("--test", nargs="+", default=[], metavar="LANG=DIR", help="recordings whose language is known")
    add("--dev", nargs="+", default=[], metavar="LANG=DIR", help="each route's development data, of its own language")
    add("--store", action="store_true", help="write what --dev gave into the packs")
    add("--output", type=Path, help="a JSON file of everything that was measured")
    return result


def main(argv: Sequence[str]) -> int:
    """Measure, print, write."""
    args = parser().parse_args(argv)
    sets = {name: routes.pairs(getattr(args, name), f"--{name}") for name in ("dev", "test")}
    if not any(sets.values()) or (args.store and not sets["dev"]):
        raise ConfigError("name --dev LANG=DIR ..., --test LANG=DIR ..., or both; --store needs --dev")
    options = routes.batch_options(args)
    from s3router.data.recordings import find_recordings

    dev, test = ({lang: find_recordings([path]) for lang, path in sets[name].items()} for name in ("dev", "test"))
    model = routes.load(args)
    for lang in (*dev, *test):
        model.head(lang)
    from s3router.serving import langid

    measured = {lang: langid.usual_confidence(model, lang, utts, options) for lang, utts in dev.items()}
    for lang, value in measured.items():
        print(f"{lang}: usual confidence {value:.3f} ({len(dev[lang])} recordings)")
    if args.store:
        _store(args.routes, measured, model)
    if not test:
        return 0
    offsets = {route: model.head(route).usual_confidence for route in model.routes} | measured
    if lacking := [route for route, value in offsets.items() if value is None]:
        raise ConfigError(f"the usual confidence of {', '.join(lacking)} is not known; measure it with --dev LANG=DIR")
    found = langid.identify(model, test, {"compared with usual": offsets, "as they are": {}}, options)
    best = found["compared with usual"]
    print("\n".join(langid.table(best)))
    for name, other in found.items():
        print(f"right, confidences {name}: {100 * other.accuracy:.1f} %")
    print(
        f"{best.passes} passes through the transformer an utterance, 1 through the convolutions; "
        f"{best.audio_seconds:.0f} s of audio in {best.seconds:.1f} s"
    )
    if args.output:
        values = {
            "usual_confidence": offsets,
            "accuracy": {name: other.accuracy for name, other in found.items()},
            "counts": {name: other.counts for name, other in found.items()},
            "transformer_passes": best.passes,
            "audio_seconds": best.audio_seconds,
            "seconds": best.seconds,
        }
        write_lines(args.output, [json.dumps(values, indent=2, ensure_ascii=False)])
    return 0


def _store(packs: Sequence[Path], measured: dict[str, float], model) -> None:
    from s3router.packs.pack_file import read_parts
    from s3router.serving.langid import store_confidence

    for path in packs:
        route = read_parts(path).description.route
        if route in measured:
            store_confidence(path, measured[route], model)
            print(f"stored in {path}")
