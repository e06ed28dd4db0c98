"""Decoding speed in times real time: batched against one by one, float32 against bf16, greedy against beam search.

Reading the audio counts, loading the model does not (it is shown apart). The contenders take turns in one process; the
table shows medians, and how many texts differ from those of float32 decoding one by one.

    python benchmarks/decode.py --exp-dir egs/asterisk/asr1/exp/EXPERIMENT --data-dir egs/asterisk/asr1/dump/en/test
    python benchmarks/decode.py ... --lm exp/lm/en_char5.arpa --runs 5 --threads 1

Data directories with relative paths are read from the recipe's folder: call it from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def measure(args: argparse.Namespace) -> dict:
    """Everything that the JSON file holds."""
    import torch

    from s3router.asr.ctc_decode import BatchOptions, GreedySearch
    from s3router.asr.decode import decode
    from s3router.asr.experiment import ASRExperiment
    from s3router.asr.search import BeamOptions, BeamSearch
    from s3router.data.kaldi import DataDir

    if args.threads:
        torch.set_num_threads(args.threads)
    data = DataDir.read(args.data_dir).with_durations()
    started = time.perf_counter()
    exp = ASRExperiment(args.exp_dir)
    model, tokens, token_list = exp.model(), exp.tokens, exp.token_list
    load_seconds = time.perf_counter() - started
    one, many = BatchOptions(batch_seconds=0), BatchOptions(batch_seconds=args.batch_seconds)
    bf16 = BatchOptions(batch_seconds=args.batch_seconds, bf16=True)
    contenders = {
        "greedy, one by one": (GreedySearch(), one),
        "greedy, batched": (GreedySearch(), many),
        "greedy, batched, bf16": (GreedySearch(), bf16),
    }
    if args.lm:
        contenders["beam 50 and n-gram, batched"] = (BeamSearch(token_list, BeamOptions(), args.lm), many)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    texts: dict[str, dict[str, str]] = {}
    for turn in range(args.runs + 1):  # the first turn warms up: caches of files and of kernels
        for name, (search, options) in contenders.items():
            found = decode(model, tokens, data, search, options)
            texts[name] = found.texts
            if turn:
                seconds[name].append(found.seconds)
            print(f"  {name}: {found.seconds:.2f} s", file=sys.stderr)
    reference, *_ = texts.values()
    slowest = statistics.median(seconds["greedy, one by one"])
    rows = {
        name: {
            "seconds": statistics.median(values),
            "all_seconds": values,
            "times_real_time": data.seconds / statistics.median(values),
            "speed_up": slowest / statistics.median(values),
            "texts_changed": sum(texts[name][utt] != text for utt, text in reference.items()),
        }
        for name, values in seconds.items()
    }
    return {
        "exp_dir": str(args.exp_dir),
        "data_dir": str(args.data_dir),
        "utterances": len(data.utts),
        "audio_seconds": data.seconds,
        "load_seconds": load_seconds,
        "batch_seconds": args.batch_seconds,
        "runs": args.runs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "contenders": rows,
    }


def table(found: dict) -> str:
    """For the screen."""
    lines = [
        f"{found['utterances']} utterances, {found['audio_seconds']:.0f} s, {found['threads']} threads, median of "
        f"{found['runs']}; loading took {found['load_seconds']:.1f} s",
        f"{'':30} {'seconds':>8} {'x real time':>12} {'speed-up':>9} {'texts changed':>14}",
    ]
    for name, row in found["contenders"].items():
        lines.append(
            f"{name:30} {row['seconds']:8.2f} {row['times_real_time']:12.0f} {row['speed_up']:9.2f} "
            f"{row['texts_changed']:14}"
        )
    return "\n".join(lines)


def main() -> int:
    """The command; returns its exit status."""
    from s3router.errors import S3RouterError
    from s3router.files import write_lines

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp-dir", type=Path, required=True, help="experiment folder of s3router train")
    parser.add_argument("--data-dir", type=Path, required=True, help="Kaldi data directory")
    parser.add_argument("--batch-seconds", type=float, default=80.0, help="(%(default)s)")
    parser.add_argument("--lm", type=Path, help="also beam search with this ARPA model over characters")
    parser.add_argument("--runs", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "decode.json")
    args = parser.parse_args()
    try:
        found = measure(args)
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    write_lines(args.output, [json.dumps(found, indent=2)])
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
