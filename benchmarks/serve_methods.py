"""One backbone with a route per language, by method: bytes, a switch, one route's throughput, and mixed batches.

Beside them on the same backbone, in the same process: HuggingFace PEFT, with `set_adapter` for a switch and
`adapter_names`, one for each utterance, for mixed batches; and a finetuned copy of the model per language, all in
memory. Of masks there is a second row, with the weights of all routes ready, as `s3router serve` has them within its
`--ready-mb`. Values are random: they change nothing of what is measured. Routes compute the adapted weights once per
switch, and then run as fast as the plain model; PEFT computes the additions in every pass.
On a busy machine take --threads 1 --clock cpu: then waiting for the processor does not count.

    python benchmarks/serve_methods.py
    python benchmarks/serve_methods.py --model whisper_base --threads 1 --clock cpu --runs 2
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import common

METHODS = ("router", "lora", "houlsby", "bitfit", "sparse_delta", "bitdelta", "weight")
READY = "router, all weights kept ready"
PEFT = "lora by PEFT"
COPIES = "finetuned copies"
LANGUAGES = 11  # as in the paper's table of Common Voice
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def backbone(args: argparse.Namespace):
    """The bare model in evaluation mode; a function that runs waveforms (B, samples) through it or what wraps it."""
    if args.model == common.WHISPER:
        model = common.random_whisper(0.0).eval()
        return model, lambda m, waves, **more: m(waves, [-(-waves.shape[1] // 320)] * len(waves), **more)
    model = common.random_hubert("base", 0.0).eval()
    model.config.return_dict = False
    return model, lambda m, waves, **more: m(input_values=waves, **more)


def packs(model, method: str, count: int) -> Iterator[Any]:
    """Packs of a method with random values."""
    import torch

    from s3router.masks import MaskConfig
    from s3router.packs import MaskPack, PackMeta
    from s3router.packs.fingerprint import weights_hash
    from s3router.tuners import METHODS as KNOWN
    from s3router.tuners.attach import attach_method
    from s3router.tuners.learnt import learnt

    trained = copy.deepcopy(model)
    if KNOWN[method].attached:
        attach_method(trained, method, MaskConfig(sparsity=0.1) if KNOWN[method].masks else None)
    else:
        for name, parameter in trained.named_parameters():
            parameter.requires_grad_(not name.startswith("feature_extractor."))
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if parameter.requires_grad and not name.endswith(".scores"):
                parameter.add_(0.001 * torch.randn_like(parameter))
    found, fingerprint = learnt(trained), weights_hash(model)
    shared = dict(model.named_buffers())
    delta = {name: tensor for name, tensor in found.delta.items() if name not in shared}

    def half(tensors: dict) -> dict:
        return {n: t.half() if t.is_floating_point() and not n.endswith(".scale") else t for n, t in tensors.items()}

    for number in range(count):
        masks = {name: torch.rand(mask.shape) >= 0.1 for name, mask in found.masks.items()}
        meta = PackMeta("random", fingerprint, adapter=found.meta)
        yield MaskPack(f"l{number}", masks, half(delta), {}, {}, None, meta, adapter=half(found.adapter))


def in_turns(work: dict[str, Callable[[], object]], runs: int, clock: str) -> dict[str, float]:
    """Median seconds of each, one turn of warming up left out."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(runs + 1):
        for name, do in work.items():
            start = CLOCKS[clock]()
            do()
            taken = CLOCKS[clock]() - start
            if turn:
                seconds[name].append(taken)
            print(f"  {name}: {taken:.4f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def ours(model, run, waves, method: str, copies: int = 1) -> tuple[dict[str, Callable[[], object]], int]:
    """What is timed of a method's routes, by name of the question; and the bytes of a route in memory.

    With several working copies those of the routes are made before, and count.
    """
    from s3router.upstreams.routes import Routes

    own = copy.deepcopy(model)
    routes = Routes(own, working_copies=copies)
    for pack in packs(model, method, LANGUAGES):
        routes.add(pack)
    turn = itertools.cycle(routes.names)

    def mixed() -> None:
        for name, members in zip(routes.names, rows_of_languages(waves), strict=True):
            with routes.applied(name):
                run(own, waves[members])

    def stay() -> None:
        with routes.applied(routes.names[0]):
            run(own, waves)

    for name in routes.names if copies > 1 else ():
        routes.prepare(name)
    work = {"switch": lambda: routes.prepare(next(turn)), "one": stay, "mixed": mixed}
    return work, sum(routes.nbytes.values()) // LANGUAGES


def rows_of_languages(waves) -> list[list[int]]:
    """Which utterances of a mixed batch are in which language: in turn."""
    return [list(range(number, len(waves), LANGUAGES)) for number in range(LANGUAGES)]


def by_copies(model, run, waves) -> tuple[dict[str, Callable[[], object]], int]:
    """The same of whole models side by side; a switch costs nothing."""
    own = [copy.deepcopy(model) for _ in range(LANGUAGES)]

    def mixed() -> None:
        for one, members in zip(own, rows_of_languages(waves), strict=True):
            run(one, waves[members])

    work = {"switch": lambda: None, "one": lambda: run(own[0], waves), "mixed": mixed}
    return work, sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def by_peft(model, run, waves) -> tuple[dict[str, Callable[[], object]], int]:
    """The same of PEFT's LoRA, of the same rank on the same layers."""
    import torch
    from peft import LoraConfig, PeftModel

    from s3router.masks import MaskConfig
    from s3router.masks.targets import find_targets
    from s3router.tuners.sizes import rank_at_equal_bytes

    targets = find_targets(model, MaskConfig())
    rank = rank_at_equal_bytes(target.shape for target in targets)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=[target.module for target in targets])
    own = PeftModel(copy.deepcopy(model), config, adapter_name="l0")
    for number in range(1, LANGUAGES):
        own.add_adapter(f"l{number}", config)
    own.eval()
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.001)
    size = sum(p.numel() for name, p in own.named_parameters() if ".l0." in name) * 4
    turn = itertools.cycle([f"l{number}" for number in range(LANGUAGES)])
    each = [f"l{row % LANGUAGES}" for row in range(len(waves))]
    work = {
        "switch": lambda: own.set_adapter(next(turn)),
        "one": lambda: (own.set_adapter("l0"), run(own, waves)),
        "mixed": lambda: run(own, waves, adapter_names=each),
    }
    return work, size


def table(found: dict[str, dict[str, float]], args: argparse.Namespace) -> str:
    """The Markdown page."""
    plain = found["plain model"]["one"]
    lines = [
        f"{args.model}, {LANGUAGES} routes, batches of {args.utterances} x {args.seconds:g} s, float32, {args.threads} "
        f"thread(s), {'processor' if args.clock == 'cpu' else 'wall'} time, median of {args.runs} runs.",
        "",
        "| method | kB per route in memory | switch, ms | throughput of one route | of 11 mixed | mixed to one |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, m in found.items():
        if name == "plain model":
            lines.append(f"| {name} | | | 1.00 ({plain:.2f} s a batch) | | |")
            continue
        lines.append(
            f"| {name} | {m['bytes'] / 1000:,.0f} | {1000 * m['switch']:.1f} | {plain / m['one']:.2f} "
            f"| {plain / m['mixed']:.2f} | {m['one'] / m['mixed']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("base", common.WHISPER), default="base", help="random, of this size")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--utterances", type=int, default=16, help="in a batch")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of an utterance")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time")
    common.add_common(parser, "serve_methods", dtype=False)
    args = parser.parse_args()
    common.settle(args)
    import torch

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    model, run = backbone(args)
    model.requires_grad_(False)
    waves = torch.randn(args.utterances, int(args.seconds * 16000))
    work, sizes = {"plain model": {"one": lambda: run(model, waves)}}, {}
    for method in args.methods:
        work[method], sizes[method] = ours(model, run, waves, method)
    work[READY], sizes[READY] = ours(model, run, waves, "router", LANGUAGES)
    work[PEFT], sizes[PEFT] = by_peft(model, run, waves)
    work[COPIES], sizes[COPIES] = by_copies(model, run, waves)
    found: dict[str, dict[str, float]] = {name: {} for name in work}
    for question, runs in (("switch", max(args.runs, 5)), ("one", args.runs), ("mixed", args.runs)):
        asked = {name: todo[question] for name, todo in work.items() if question in todo}
        for name, seconds in in_turns(asked, runs, args.clock).items():
            found[name][question] = seconds
    for name, size in sizes.items():
        found[name]["bytes"] = size
    common.write(args, {"results": found}, table(found, args))


if __name__ == "__main__":
    main()
