"""``s3router superb-predict``: predict a data directory with a trained task, and score it.

Leaves in the output folder the predictions, ``result.json`` and, for the benchmark's tasks, the file that a submission
holds, under the name that it has there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    made = argparse.ArgumentParser(prog="s3router superb-predict", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--exp-dir", type=Path, required=True, help="output folder of superb-train, or one with a link selected")
    add(
        "--data-dir",
        type=Path,
        required=True,
        help="Kaldi directory with labels, texts, trials or turns",
    )
    add("--output-dir", type=Path, required=True, help="predictions, result.json, submission's file")
    add("--fold", type=int, choices=range(1, 6), help="the fold of emotion recognition")
    add("--batch-size", type=int, default=8, help="utterances (%(default)s)")
    add("--num-workers", type=int, default=0, help="processes that read audio (%(default)s)")
    add("--device", default="cpu", help="cpu or cuda")
    raw = "sv: trials on waveforms as they are, as s3prl's problem has it, not levelled and without silence"
    add("--raw", action="store_true", help=raw)
    return made


def main(argv: Sequence[str]) -> int:
    """Predict, and print the metrics."""
    args = parser().parse_args(argv)
    from s3router.superb.experiment import TaskExperiment
    from s3router.superb.predict import described, predict

    result = predict(
        *(TaskExperiment(args.exp_dir), args.data_dir, args.output_dir, args.fold),
        *(args.batch_size, args.num_workers, args.device, args.raw),
    )
    track = f", {result['track']} track" if "track" in result else ""
    print(f"{args.data_dir}: {described(result)}{track}")
    return 0
