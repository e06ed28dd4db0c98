"""``s3router decode``: transcribe a Kaldi data directory with a trained model, and score it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from s3router.errors import ConfigError

TASKS = ("ctc", "seq2seq")
CHUNKS = ("max_seconds", "overlap_seconds")
BEAM = ("beam_size", "unit", "lm_weight", "insertion_score", "beam_size_token", "beam_threshold")


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.asr.lm import UNITS
    from s3router.asr.search import BeamOptions
    from s3router.seq2seq.decode import BATCH_SECONDS

    batch, beam = ({f.name: f.default for f in fields(kind)} for kind in (BatchOptions, BeamOptions))
    result = argparse.ArgumentParser(prog="s3router decode", description=__doc__)
    result.add_argument(
        "--exp-dir", type=Path, required=True, help="experiment folder of s3router train or seq2seq-train"
    )
    result.add_argument("--data-dir", type=Path, required=True, help="Kaldi data directory with wav.scp and text")
    result.add_argument("--output-dir", type=Path, required=True, help="folder for the results")
    result.add_argument("--checkpoint", type=Path, help="default: the best one on the validation set")
    result.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (%(default)s)")
    result.add_argument("--dry-run", action="store_true", help="check the options, and end")
    result.add_argument(
        "--task", choices=TASKS, help="what the options are checked for where nothing is trained yet, with --dry-run"
    )
    group = result.add_argument_group("batches")
    group.add_argument(
        "--batch-seconds",
        type=float,
        help=f"0: one by one ({batch['batch_seconds']}; whole recognisers {BATCH_SECONDS} / beam size)",
    )
    group.add_argument("--max-seconds", type=float, help=f"chunk beyond ({batch['max_seconds']})")
    group.add_argument("--overlap-seconds", type=float, help=f"of neighbouring chunks ({batch['overlap_seconds']})")
    group.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    group = result.add_argument_group("beam search (greedy without these; needs tools/setup.sh --with-lm)")
    group.add_argument("--beam-size", type=int, default=1, help="above 1: beam search")
    group.add_argument("--lm", type=Path, help="n-gram model, ARPA")
    group.add_argument("--lm-unit", dest="unit", choices=UNITS, help=f"what the model predicts ({beam['unit']})")
    group.add_argument("--lm-weight", type=float, help=f"of the model's log10 probability ({beam['lm_weight']})")
    group.add_argument("--insertion-score", type=float, help=f"added for every word ({beam['insertion_score']})")
    group.add_argument("--beam-size-token", type=int, help=f"tokens tried per frame ({beam['beam_size_token']})")
    group.add_argument(
        "--beam-threshold", type=float, help=f"hypotheses so far below the best are dropped ({beam['beam_threshold']})"
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Decode, write the results, and print the error rates."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    args = vars(parser().parse_args(argv))
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.asr.decode import decode_experiment
    from s3router.seq2seq.decode import BATCH_SECONDS
    from s3router.seq2seq.decode import decode_experiment as decode_whole

    dry_run, task = args.pop("dry_run"), args.pop("task")
    if task and not dry_run:
        raise ConfigError(f"--task {task}: goes with --dry-run; an experiment that is there tells its task itself")
    given = {name: value for name, value in args.items() if value is not None}
    if given["beam_size"] < 1:
        raise ConfigError(f"--beam-size {given['beam_size']}: 1 is greedy search; give 1 or more")
    from s3router.seq2seq.experiment import Seq2SeqExperiment

    whole = task == "seq2seq" if task else Seq2SeqExperiment.is_in(args["exp_dir"])
    if whole:
        _check_whole(given)
        given.setdefault("batch_seconds", BATCH_SECONDS / given["beam_size"])  # a beam is so many hypotheses
    options = BatchOptions(
        **{field.name: given.pop(field.name) for field in fields(BatchOptions) if field.name in given}
    )
    if dry_run:
        from s3router.asr.search import check_search

        if not whole:
            check_search(given.get("lm"), **{name: given[name] for name in BEAM if name in given})
        return 0
    if whole:
        result = decode_whole(**given, batch_seconds=options.batch_seconds)
    else:
        result = decode_experiment(**given, options=options)
    rates = ["per"] if "per" in result else ["wer", "cer"]
    print(
        f"{result['data_dir']}: {', '.join(f'{rate.upper()} {100 * result[rate]:.2f} %' for rate in rates)}, "
        f"{result['n_utts']} utterances, {result['audio_seconds']:.0f} s of audio in {result['seconds']:.1f} s "
        f"({result['times_real_time']:.0f} times real time)\n{args['output_dir']}: result.json, alignments.txt, text, "
        "hyp.trn, ref.trn"
    )
    return 0


def _check_whole(given: dict) -> None:
    """Refuse what a whole recogniser, which has a search of its own, would not heed."""
    known = (*BEAM, "lm", *CHUNKS)
    if strange := [name for name in known if name in given and name != "beam_size"] + ["bf16"] * given["bf16"]:
        names = ", ".join("--" + ("lm-unit" if name == "unit" else name.replace("_", "-")) for name in strange)
        raise ConfigError(
            f"{names}: for CTC models; {given['exp_dir']} holds a whole recogniser, which has a decoder, and windows"
        )
