"""``s3router pretrain``: a small upstream by masked prediction of clustered frames."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="s3router pretrain",
        description="Pretrain a small HubertModel by masked prediction of clustered frames (HuBERT, Hsu et al. 2021). "
        "The result is a HuggingFace folder. The same command goes on after a kill.",
    )
    made.add_argument("--config", type=Path, required=True, help="YAML: model, training and rounds")
    sets = {"type": Path, "nargs": "+", "required": True, "metavar": "DIR"}
    made.add_argument("--train", **sets, help="Kaldi directories to learn from")
    made.add_argument("--dev", **sets, help="held out: only loss and accuracy")
    made.add_argument("--synthetic", type=Path, metavar="DIR",
                      help="what s3router prepare synthetic wrote, for rounds with phones")  # fmt: skip
    made.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    made.add_argument("--threads", type=positive, default=os.cpu_count(), help="processor threads (%(default)s)")
    made.add_argument("--init", type=Path, help="go on from this HuggingFace folder instead of from nothing")
    made.add_argument("--first-round", type=int, default=1, help="leave out the rounds before it; goes with --init")
    return made


def positive(word: str) -> int:
    """A whole number above 0, for argparse."""
    if not word.isdigit() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = parser().parse_args(argv)
    if (args.init is None) != (args.first_round == 1) or args.first_round < 1:
        parser().error("--init FOLDER goes with --first-round N, N from 2: the rounds that made FOLDER are left out")
    import torch

    from s3router.pretraining.rounds import check, pretrain
    from s3router.pretraining.settings import Settings
    from s3router.pretraining.speech import Speech

    torch.set_num_threads(args.threads)
    settings = Settings.read(args.config)
    check(settings, args.first_round, with_phones=args.synthetic is not None)  # before the speech is read
    speech = Speech.read(args.train, args.dev, settings.training.speeds, args.synthetic)
    print(f"{speech.summary['minutes']:.1f} min of recordings to learn from, {speech.summary['recordings']} of them")
    print(f"{pretrain(settings, speech, args.out, args.init, args.first_round)}: the pretrained model")
    return 0
