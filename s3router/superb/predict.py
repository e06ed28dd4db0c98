"""``s3router superb-predict``: predict a data directory with a trained task, and score it.

Leaves in the output folder: ``utt2label`` (predictions), ``result.json`` and, for the benchmark's tasks, the file that
a submission holds, under the name it has there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3router.data.utt2label import BETWEEN, Label
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines
from s3router.submission.tracks import track
from s3router.superb.tasks import FIGURES, TaskSpec, task


def submission_lines(spec: TaskSpec, predictions: Mapping[str, Label]) -> list[str]:
    """Lines of the submission's file, in order of ids. Raises DataError where a column holds the separator."""
    rows = [(utt, *predictions[utt]) for utt in sorted(predictions)]
    if spec.kind == "sequences":  # the text is the rest of the line, and may be empty
        return [" ".join(spec.separator.join(row).split()) for row in rows]
    bad = [row for row in rows if any(spec.separator in cell for cell in row)]
    if bad:
        raise DataError(f"{spec.file}: {spec.separator!r} stands inside of {bad[0]}, so the line could not be read")
    return [spec.separator.join(row) for row in rows]


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="s3router superb-predict", description=__doc__.split("\n")[0])
    made.add_argument("--exp-dir", type=Path, required=True, help="output folder of superb-train")
    made.add_argument("--data-dir", type=Path, required=True, help="Kaldi directory, with what its task is scored by")
    made.add_argument("--output-dir", type=Path, required=True, help="predictions, result.json, submission's file")
    made.add_argument("--fold", type=int, choices=range(1, 6), help="of emotion recognition")
    made.add_argument("--batch-size", type=int, default=8, help="utterances (%(default)s)")
    made.add_argument("--num-workers", type=int, default=0, help="processes that read audio (%(default)s)")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    return made


def predict(args: argparse.Namespace) -> dict:
    """Run it; returns what ``result.json`` holds."""
    from s3router.superb import options
    from s3router.superb.batches import in_order
    from s3router.superb.evaluate import evaluate
    from s3router.superb.model import build_task
    from s3router.superb.run import BEST, read, read_config
    from s3router.superb.tasks import Settings
    from s3router.training.checkpoints import read_states
    from s3router.training.parameters import load_trained

    config = read_config(args.exp_dir)
    given = argparse.Namespace(**{"pool_ahead": "never", **config["options"], "feature_cache": None})
    spec, settings = task(given.task), Settings(**config["settings"])
    if spec.folder and "{fold}" in spec.folder and args.fold is None:
        raise ConfigError(f"task {spec.name} has folds: say which with --fold")
    kind, labelled = spec.of_kind(), read(args.data_dir, spec)
    states = read_states(args.exp_dir / BEST, args.device)
    built = build_task(
        spec,
        settings,
        config["classes"],
        given.mode,
        options.extra_conf(given),
        given.upstream_ckpt,
        bfloat16=given.amp_dtype == "bfloat16",
    )
    if built.model.routed.backbone_fingerprint != config["fingerprint"]:
        raise ConfigError(f"{args.exp_dir} was trained on other weights of {given.upstream}; bring those back")
    load_trained(built.model, states["model"], str(args.exp_dir / BEST))
    built.to(args.device)
    kind.check(None, [labelled], config["classes"], built.model.receptive_field)
    clips = kind.clips(
        labelled, getattr(built, "encoder", None) or kind.encoder(config["classes"], spec), settings, None, 0
    )
    loader = in_order(clips, args.batch_size, num_workers=args.num_workers)
    outcome = evaluate(built, loader, labelled, args.device)
    result = {
        "task": spec.name,
        "mode": given.mode,
        "track": track(given.mode, config["options"], config["settings"]),
        "data_dir": str(args.data_dir),
        "upstream": given.upstream,
        "sparsity": given.sparsity,
        "seed": given.seed,
        "lr": given.lr,
        "upstream_lr": given.upstream_lr,
        "n_utts": len(outcome.predictions),
        **kind.figures(list(outcome.predictions.values()), list(outcome.references.values()), spec),
        "loss": outcome.loss,
        "selected": states["best"],
    }
    if hasattr(kind, "tuned"):  # settings that the validation set has chosen
        predicted = list(outcome.predictions.values()), list(outcome.references.values())
        result.update(kind.tuned(*predicted, states["best"]))
    if hasattr(kind, "write"):  # what it predicts is no label
        kind.write(args.output_dir, spec, outcome)
        write_lines(args.output_dir / "result.json", [json.dumps(result, indent=1, ensure_ascii=False)])
        return result
    write_lines(args.output_dir / kind.LABELS, (f"{u} {BETWEEN.join(p)}" for u, p in outcome.predictions.items()))
    if spec.folder:
        target = args.output_dir / spec.folder.format(fold=args.fold) / spec.file
        write_lines(target, submission_lines(spec, outcome.predictions))
    write_lines(args.output_dir / "result.json", [json.dumps(result, indent=1, ensure_ascii=False)])
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = parser().parse_args(argv)
    try:
        result = predict(args)
    except S3RouterError as error:
        print(f"superb-predict: {error}", file=sys.stderr)
        return 1
    print(f"{args.data_dir}: {said(result)}, {result['track']} track")
    return 0


def said(result: dict) -> str:
    """The figures of a result in words."""
    if "accuracy" in result:
        low, high = result["interval"]
        interval = f"(95 % interval {100 * low:.2f} to {100 * high:.2f})"
        return f"accuracy {100 * result['accuracy']:.2f} % of {result['n_utts']} {interval}"
    names = [name for name in FIGURES if name in result]
    return ", ".join(f"{FIGURES[name]} {100 * result[name]:.2f} %" for name in names) + f" of {result['n_utts']}"


if __name__ == "__main__":
    sys.exit(main())
