"""One training step of each method, masks and weight finetuning first of all: time and peak memory.

Every run is a process of its own (peak memory never goes down again), the contenders take turns, and the table shows
medians. All train with CTC and Adam on the same batch, with the front end frozen; methods are those of docs/methods.md,
at their sizes of equal bytes. On a busy machine take --threads 1 --clock cpu: then waiting for the processor does not
count.

    python benchmarks/train_step.py                     # all sizes, 3 runs each
    python benchmarks/train_step.py --size tiny --methods weight router --runs 1 --steps 3 --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, SIZES, WHISPER, add_common, random_hubert, random_whisper, settle, write

METHODS = ("weight", "router", "resting", "lora", "bitfit", "houlsby")
RESTING = "resting"  # masks of which half of the weights' scores rest in each pass
UTTERANCES = {"tiny": 16, "base": 4, WHISPER: 4}  # in a batch, where not given
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def rss_mb() -> float:
    """Resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb() -> float:
    """The largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def run(args: argparse.Namespace) -> dict[str, float]:
    """Train in this process; what was measured."""
    import torch
    from torch import nn

    from s3router.masks import MaskConfig
    from s3router.tuners import METHODS as KNOWN
    from s3router.tuners.attach import attach_method

    utterances = args.utterances or UTTERANCES[args.size]
    torch.manual_seed(0)
    import peft  # noqa: F401  counts as baseline, not as the model's memory
    import transformers.models.hubert.modeling_hubert
    import transformers.models.whisper.modeling_whisper  # noqa: F401

    baseline = rss_mb()
    whisper = args.size == WHISPER
    model = (random_whisper(args.dropout) if whisper else random_hubert(args.size, args.dropout)).train()
    rest = args.contender == RESTING
    method = "router" if rest else args.contender
    if KNOWN[method].attached:
        masks = MaskConfig(sparsity=0.1, gradient_rest=0.5 * rest) if KNOWN[method].masks else None
        attach_method(model, method, masks)
    elif args.contender == "frozen":
        model.requires_grad_(False)
    if not whisper:
        model.feature_extractor._freeze_parameters()  # also what else makes their input require grad
    model.feature_extractor.requires_grad_(False)
    head = nn.Linear(model.config.hidden_size, 32)
    trained = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=5e-5, betas=(0.9, 0.98), fused=args.fused)
    wave = torch.randn(utterances, int(args.seconds * 16000))
    tokens = torch.randint(1, 32, (utterances, int(args.seconds * 10)))
    lengths = torch.full((utterances,), tokens.shape[1])
    frames_of_all = [-(-wave.shape[1] // 320)] * utterances
    clock = CLOCKS[args.clock]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for _ in range(args.accumulate):
            with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):
                hidden = model(wave, frames_of_all)[-1] if whisper else model(wave).last_hidden_state
                logits = head(hidden)
            log_probs = logits.float().log_softmax(-1).transpose(0, 1)
            frames = torch.full((utterances,), log_probs.shape[0])
            nn.functional.ctc_loss(log_probs, tokens, frames, lengths, zero_infinity=True).backward()
        optimizer.step()

    seconds = []
    for _ in range(args.warmup + args.steps):
        start = clock()
        step()
        seconds.append(clock() - start)
    return {
        "seconds": statistics.median(seconds[args.warmup :]),
        "peak_mb": peak_mb(),
        "peak_above_baseline_mb": peak_mb() - baseline,
        "trained_parameters": sum(p.numel() for p in trained),
    }


def measure(args: argparse.Namespace, size: str) -> dict:
    """All runs of one size, contenders in turn, and the ratios of their medians to those of the first."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in args.methods}
    for _ in range(args.runs):
        for contender in args.methods:
            command = [sys.executable, __file__, *sys.argv[1:], "--size", size, "--contender", contender]
            environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            runs[contender].append(json.loads(done.stdout.splitlines()[-1]))
    keys = ("seconds", "peak_mb", "peak_above_baseline_mb", "trained_parameters")
    medians = {c: {key: statistics.median(r[key] for r in runs[c]) for key in keys} for c in args.methods}
    first = medians[args.methods[0]]
    ratios = {c: {key: medians[c][key] / first[key] for key in keys} for c in args.methods}
    audio = f"{args.utterances or UTTERANCES[size]} x {args.seconds:g} s"
    return {"size": size, "audio": audio, "median": medians, "to_the_first": ratios, "runs": runs}


def table(results: list[dict], args: argparse.Namespace) -> str:
    lines = [
        f"{args.dtype}, accumulation {args.accumulate}, dropouts {args.dropout:g}, {args.threads} "
        f"thread(s), {'processor' if args.clock == 'cpu' else 'wall'} time, median of {args.runs} run(s) of "
        f"{args.steps} steps; in brackets, as a share of {args.methods[0]}.",
        "",
        "| model | audio | method | trained parameters | s / step | peak MB | peak MB above baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for name, m in result["median"].items():
            r = result["to_the_first"][name]
            lines.append(
                f"| {result['size']} | {result['audio']} | {name} | {m['trained_parameters'] / 1e6:.2f} M "
                f"| {m['seconds']:.2f} ({r['seconds']:.2f}) | {m['peak_mb']:.0f} ({r['peak_mb']:.2f}) "
                f"| {m['peak_above_baseline_mb']:.0f} ({r['peak_above_baseline_mb']:.2f}) |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (*SIZES, WHISPER)
    parser.add_argument("--size", choices=(*sizes, "all"), default="all")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), help="the first is what others are compared with"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time")
    parser.add_argument("--runs", type=int, default=3, help="processes per contender and size")
    parser.add_argument("--steps", type=int, default=5, help="timed steps a process")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--utterances", type=int, default=0, help=f"in a batch; 0: {UTTERANCES}")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance")
    parser.add_argument("--accumulate", type=int, default=1, help="forward and backward passes a step")
    parser.add_argument("--dropout", type=float, default=0.1, help="every dropout of the transformer")
    parser.add_argument("--fused", action=argparse.BooleanOptionalAction, default=True, help="torch's fused Adam")
    add_common(parser, "train_step")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    args = parser.parse_args()
    settle(args)
    if args.contender:
        print(json.dumps(run(args)))
        return
    results = [measure(args, size) for size in (sizes if args.size == "all" else (args.size,))]
    write(args, {"results": results}, table(results, args))


if __name__ == "__main__":
    main()
