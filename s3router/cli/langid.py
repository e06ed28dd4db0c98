"""``s3router langid``: which language is spoken: calibration, classifiers, and how often ``--lang auto`` is right.

    s3router langid --routes exp/routes/*.pack --dev es=data/es/dev en=data/en/dev --store
    s3router langid --routes exp/routes/*.pack --test es=data/es/test en=data/en/test
    s3router langid --upstream whisper_base --fit es=data/es/train en=data/en/train --dev es=data/es/dev \\
        en=data/en/dev -o langid.pack
    s3router langid --langid langid.pack --test es=data/es/test en=data/en/test

The routes' confidences: with --dev, each route's usual confidence in its own language is measured first; --store
writes it into the packs. Without, the packs' own is used. A classifier: --fit makes one on the first layers of the bare
backbone, for transcribe --lang auto --langid; --dev decides how many layers. With --routes and --langid, both ways are
tested.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.cli import route_options
from s3router.errors import ConfigError
from s3router.files import write_json
from s3router.sharing.address import is_address

if TYPE_CHECKING:
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.data.kaldi import Utterance
    from s3router.serving.language_classifier import LanguageClassifier
    from s3router.serving.routed_model import RoutedModel
    from s3router.upstreams.routed import RoutedUpstream

Sets = Mapping[str, "Sequence[Utterance]"]


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(
        prog="s3router langid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    route_options.add_model(result, routes_needed=False)
    route_options.add_chunks(result)
    add = result.add_argument
    add("--test", nargs="+", default=[], metavar="LANG=DIR", help="recordings whose language is known")
    add("--dev", nargs="+", default=[], metavar="LANG=DIR", help="each route's development data, of its own language")
    add("--store", action="store_true", help="write what --dev gave into the packs")
    add("--fit", nargs="+", default=[], metavar="LANG=DIR", help="training data of a classifier")
    add("--layers", nargs="+", type=int, metavar="N", help="of which --dev picks one (default: the first third)")
    add("-o", "--classifier", type=Path, metavar="PACK", help="where --fit writes the classifier")
    add("--langid", type=Path, metavar="PACK", help="a classifier to test")
    add("--among", nargs="+", metavar="LANG", help="the candidates of --langid (default: all that it knows)")
    add("--output", type=Path, help="a JSON file of everything that was measured")
    return result


def main(argv: Sequence[str]) -> int:
    """Measure, print, write."""
    args = parser().parse_args(argv)
    _check(args)
    args.routes = route_options.here(args.routes)
    options = route_options.batch_options(args)
    from s3router.data.recordings import find_recordings

    fit, dev, test = (
        {lang: find_recordings([path]) for lang, path in route_options.pairs(vars(args)[name], f"--{name}").items()}
        for name in ("fit", "dev", "test")
    )
    values: dict[str, Any] = {}
    if fit:
        values |= _by_classifier(args, *_fitted(args, fit, dev, options), test, options)
    elif args.routes:
        values |= _by_confidence(args, dev, test, options)
    elif args.langid:
        from s3router.serving.language_classifier import LanguageClassifier

        classifier = LanguageClassifier.load(args.langid)
        named = (args.upstream or classifier.backbone, args.upstream_ckpt or classifier.checkpoint)
        values |= _by_classifier(args, classifier, _backbone(args, *named), test, options)
    if args.output:
        write_json(args.output, values, indent=2)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.fit:
        if not args.classifier or not args.dev:
            raise ConfigError("--fit LANG=DIR ... needs --dev LANG=DIR ... and -o langid.pack")
        if args.langid or args.store:
            raise ConfigError("--fit makes a classifier; --langid and --store belong to other calls")
        if not args.routes and not args.upstream:
            raise ConfigError("--fit: name the backbone with --upstream, or by the --routes that it will serve")
        return
    if args.classifier or args.layers:
        raise ConfigError("-o and --layers belong to --fit LANG=DIR ...")
    if not args.routes and not args.langid:
        raise ConfigError("name --routes PACK ..., a classifier with --langid, or --fit LANG=DIR ... to make one")
    if args.among and not args.langid:
        raise ConfigError("--among names the candidates of --langid")
    if args.langid and not args.test:
        raise ConfigError("--langid needs --test LANG=DIR ...")
    if not (args.dev or args.test) or (args.store and not args.dev):
        raise ConfigError("name --dev LANG=DIR ..., --test LANG=DIR ..., or both; --store needs --dev")
    if not args.routes and args.dev:
        raise ConfigError("--dev measures routes, or goes with --fit; name --routes PACK ...")
    if args.store and (shared := [path for path in args.routes if is_address(path)]):
        raise ConfigError(f"--store writes into packs of yours; s3router pull {shared[0]} --output DIR makes copies")
    if args.store and (folders := [path for path in args.routes if path.is_dir()]):
        raise ConfigError(f"--store writes into packs, and {folders[0]} is a folder; s3router pack makes a pack of it")


def _backbone(args: argparse.Namespace, upstream: str, ckpt: str | None) -> RoutedUpstream:
    from s3router.training.processes import check_device
    from s3router.upstreams.hub import build

    check_device(args.device)
    return build(ckpt=ckpt, upstream=upstream).to(args.device).eval()


def _fitted(
    args: argparse.Namespace, train: Sets, dev: Sets, options: BatchOptions
) -> tuple[LanguageClassifier, RoutedUpstream]:
    """Fit a classifier and write it."""
    from s3router.serving.langid_fit import fit

    names = args.upstream, args.upstream_ckpt
    if args.routes:
        from s3router.serving.loading import backbone_of

        names = backbone_of(args.routes[0], *names)
    upstream = _backbone(args, *names)
    classifier = fit(upstream, train, dev, names, args.layers, options)
    size, told = classifier.save(args.classifier), classifier.training
    by_layer = ", ".join(f"{layer}: {100 * value:.1f} %" for layer, value in told["dev_accuracy_by_layer"].items())
    print(f"right on dev, mean over languages, by the output of layer {by_layer}")
    print(f"{args.classifier}: layer {classifier.layers}, {size:,} bytes, fitted in {told['seconds']:.0f} s")
    return classifier, upstream


def _by_classifier(
    args: argparse.Namespace,
    classifier: LanguageClassifier,
    upstream: RoutedUpstream,
    test: Sets,
    options: BatchOptions,
) -> dict[str, Any]:
    """Test a classifier and print how often it is right; returns what --output holds."""
    from s3router.serving import langid

    values: dict[str, Any] = {
        "layers": classifier.layers,
        "backbone": classifier.backbone,
        "languages": list(classifier.languages),
        "training": dict(classifier.training),
    }
    if not test:
        return {"classifier": values}
    found = langid.identify_by_classifier(upstream, test, classifier, args.among, options)
    every = [utt for recordings in test.values() for utt in recordings]
    passes = langid.cost_in_passes(upstream, every, classifier.layers, options)
    print("\n".join(langid.table(found)))
    print(f"right, by the classifier: {100 * found.accuracy:.1f} %")
    print(
        f"{found.passes:.2f} passes through the transformer per utterance, transcription included, by layers; "
        f"{passes:.2f} passes by time; {found.audio_seconds:.0f} s of audio in {found.seconds:.1f} s, without "
        "transcription"
    )
    values |= {
        "accuracy": found.accuracy,
        "accuracy_of": {lang: found.accuracy_of(lang) for lang in test},
        "counts": found.counts,
        "passes_by_layers": found.passes,
        "passes_by_time": passes,
        "audio_seconds": found.audio_seconds,
        "seconds_without_transcription": found.seconds,
    }
    return {"classifier": values}


def _by_confidence(args: argparse.Namespace, dev: Sets, test: Sets, options: BatchOptions) -> dict[str, Any]:
    """Measure the routes' confidences, and test them; the classifier beside them, if there is one."""
    model = route_options.load(args)
    for lang in (*dev, *test):
        model.text_head(lang)
    known = {*dev, *(route for route in model.transcribing if model.text_head(route).usual_confidence is not None)}
    if test and (lacking := [route for route in model.transcribing if route not in known]):
        raise ConfigError(f"the usual confidence of {', '.join(lacking)} is not known; measure it with --dev LANG=DIR")
    from s3router.serving import langid
    from s3router.serving.language_classifier import LanguageClassifier

    classifier = None if args.langid is None else LanguageClassifier.load(args.langid)
    if classifier is not None:  # before the long work
        classifier.check(args.among or model.transcribing)
        classifier.check_backbone(model.upstream)
    measured = {lang: langid.usual_confidence(model, lang, utts, options) for lang, utts in dev.items()}
    for lang, value in measured.items():
        print(f"{lang}: usual confidence {value:.3f} ({len(dev[lang])} recordings)")
    if args.store:
        _store(args.routes, measured, model)
    values: dict[str, Any] = {"usual_confidence": measured}
    if test:
        values |= _identify(model, test, measured, options)
    if classifier is not None:
        args.among = args.among or list(model.transcribing)
        values |= _by_classifier(args, classifier, model.upstream, test, options)
    return values


def _identify(
    model: RoutedModel, test: Mapping[str, Sequence[Utterance]], measured: Mapping[str, float], options: BatchOptions
) -> dict[str, Any]:
    """Guess the language of the test sets, and print how often that is right; returns what --output holds."""
    from s3router.serving import langid
    from s3router.serving.transcribe import Ranking, ranking_of

    offsets = {route: model.text_head(route).usual_confidence for route in model.transcribing} | {**measured}
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
