"""One backbone with many mask packs against as many finetuned models: switching, mixed batches, memory.

A random HuBERT of wav2vec2-base's size and random masks over 10 % of its feed-forward weights: neither values nor masks
change what a switch, a batch or a byte costs. The contenders of each question take turns; the table shows medians. On a
busy machine take --threads 1 --clock cpu: then waiting for the processor does not count (slow shared memory does).

- switch: until the masked weights of another route are all in memory, against loading a finetuned checkpoint that lies
  in the page cache (disks are slower), in four ways, from the leanest to the most careful;
- mixed: 16 utterances of equal length in n languages, against the same 16 in one, whose route is in place;
- memory: resident, in processes of their own, above what torch and transformers take.

    python benchmarks/routing.py
    python benchmarks/routing.py --threads 1 --runs 2 --seconds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common

LANGUAGES = 11  # as in the paper's table of Common Voice
TOKENS = 60
NAME = "hf_hubert_custom"


def write_files(folder: Path) -> None:
    """A finetuned model in the usual formats, and one pack for each language."""
    import torch

    from s3router.masks import MaskConfig, find_targets
    from s3router.packs import MaskPack, PackMeta, write_pack
    from s3router.upstreams import fingerprint

    torch.manual_seed(0)
    model = common.random_hubert("base", 0.0)
    model.save_pretrained(folder / "model")
    settings = {"do_normalize": True, "sampling_rate": 16000, "feature_size": 1, "padding_value": 0.0}
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(settings))
    torch.save(model.state_dict(), folder / "model.pth")
    config = MaskConfig(sparsity=0.1)
    preprocessing = {"sample_rate": 16000, "features": "last", "normalize_features": False, "token_type": "char"}
    meta = PackMeta(NAME, fingerprint(model), mask=config.to_dict(), preprocessing=preprocessing)
    for number in range(LANGUAGES):
        masks = {target.name: torch.rand(target.shape) >= 0.1 for target in find_targets(model, config)}
        head = {"weight": torch.randn(TOKENS, model.config.hidden_size), "bias": torch.zeros(TOKENS)}
        tokens = ("<blank>", "<unk>", *map(str, range(TOKENS - 3)), "<sos/eos>")
        write_pack(folder / f"l{number}.pack", MaskPack(f"l{number}", masks, {}, {}, head, tokens, meta))


def build(folder: Path):
    """The model from its folder, as every command of ours loads it."""
    from s3router.upstreams.hub import build

    return build(ckpt=str(folder / "model"), upstream=NAME).eval()


def router(folder: Path):
    """The model with all its routes."""
    from s3router.serving.loading import load_routes

    return load_routes(sorted(folder.glob("*.pack")), NAME, str(folder / "model"))


def in_turns(contenders: dict[str, Callable[[], object]], runs: int, clock: str) -> dict[str, list[float]]:
    """Seconds of each contender by the clock "wall" or "cpu", one turn of warming up left out."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(runs + 1):
        for name, work in contenders.items():
            start = now()
            work()
            taken = now() - start
            if turn:
                seconds[name].append(taken)
            print(f"  {name}: {taken:.4f} s", file=sys.stderr)
    return seconds


def switching(folder: Path, model, args: argparse.Namespace) -> dict:
    """Seconds of a switch, and of each way to load a checkpoint."""
    import itertools

    import torch
    from safetensors.torch import load_file
    from transformers import HubertModel

    routes, turn = model.upstream.routes, itertools.cycle(model.routes)
    own = common.random_hubert("base", 0.0)
    pair = itertools.cycle(model.routes[:2])

    def between_copies() -> None:
        routes.prepare(next(pair))

    seconds = in_turns(
        {
            "switch of routes": lambda: routes.prepare(next(turn)),
            "safetensors into a model that is there": lambda: own.load_state_dict(
                load_file(folder / "model" / "model.safetensors")
            ),
            "torch.load into a model that is there": lambda: own.load_state_dict(
                torch.load(folder / "model.pth", weights_only=True)
            ),
            "transformers from_pretrained": lambda: HubertModel.from_pretrained(folder / "model"),
            "our checked loading": lambda: build(folder),
        },
        max(args.runs, 5),  # they take no time
        args.clock,
    )
    routes.working_copies = 2
    kept = "switch, both routes kept (working_copies=2)"
    seconds[kept] = in_turns({kept: between_copies}, 10, args.clock)[kept][1:]
    routes.working_copies = 1
    routes._copies.clear()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    switch = medians["switch of routes"]
    return {"seconds": seconds, "median": medians, "times_faster": {n: value / switch for n, value in medians.items()}}


def mixing(model, args: argparse.Namespace) -> dict:
    """Seconds of a batch by the number of languages in it, and throughput relative to one language."""
    import torch

    generator = torch.Generator().manual_seed(0)
    waves = [torch.randn(int(args.seconds * 16000), generator=generator) for _ in range(16)]

    def batch(languages: int) -> Callable[[], object]:
        routes = [model.routes[row % languages] for row in range(16)]
        return lambda: model.log_probs(waves, routes)

    with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):
        seconds = in_turns({f"{n}": batch(n) for n in (1, 2, 5, LANGUAGES)}, args.runs, args.clock)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": seconds, "median": medians, "throughput": {n: medians["1"] / v for n, v in medians.items()}}


def resident_mb() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(contender: str, folder: Path) -> dict:
    """In a process of its own: load everything, use it once, look."""
    import gc

    import torch
    import transformers.models.hubert.modeling_hubert  # noqa: F401  counts as baseline

    import s3router.serving.loading  # noqa: F401

    baseline = resident_mb()
    wave = torch.randn(1600)
    if contender == "routes":
        model = router(folder)
        for route in model.routes:
            model.log_probs([wave], route)
        parts = model.upstream.routes.nbytes
    else:
        model, parts = [build(folder) for _ in range(LANGUAGES)], {}
        with torch.inference_mode():
            for one in model:
                one([wave])
    gc.collect()
    return {"baseline_mb": baseline, "mb": resident_mb() - baseline, "parts_bytes": parts}


def memories(folder: Path, runs: int) -> dict:
    """Both contenders in turns."""
    found: dict[str, list[dict]] = {"routes": [], "models": []}
    environment = os.environ | {"PYTHONPATH": f"{common.ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for _ in range(runs):
        for contender in found:
            command = [sys.executable, __file__, "--contender", contender, "--folder", str(folder)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[contender].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {name: statistics.median(run["mb"] for run in values) for name, values in found.items()}
    return {"runs": found, "median_mb": medians, "saved": 1 - medians["routes"] / medians["models"]}


def parameters(model) -> dict:
    """Counts of both ways; a mask bit is a 32nd of a float32 parameter."""
    backbone = sum(parameter.numel() for parameter in model.upstream.backbone.parameters())
    head = sum(buffer.numel() for buffer in model.head(model.routes[0]).buffers())
    bits = sum(bits.numel() * 8 for bits in model.upstream.routes._routes[model.routes[0]].bits.values())
    models = LANGUAGES * (backbone + head)
    routes = backbone + LANGUAGES * (head + bits / 32)
    return {"backbone": backbone, "head": head, "mask_bits": bits, "models": models, "routes": routes} | {
        "saved": 1 - routes / models,
        "saved_if_masks_count_nothing": 1 - (backbone + LANGUAGES * head) / models,
    }


def table(found: dict, args: argparse.Namespace) -> str:
    """Three Markdown tables."""
    s, m, r, p = found["switch"], found["mixed"], found["memory"], found["parameters"]
    lines = [
        f"HuBERT of base size, {LANGUAGES} routes, {p['mask_bits'] / 1e6:.1f} M masked weights, {args.threads} "
        f"thread(s), {args.clock} time, medians of at least {args.runs} runs; checkpoints in the page cache.",
        "",
        "| | ms | times a switch |",
        "|---|---:|---:|",
        *(f"| {name} | {1000 * v:.2f} | {s['times_faster'][name]:.2f} |" for name, v in s["median"].items()),
        "",
        f"| 16 x {args.seconds:g} s, {args.dtype}, languages | s / batch | throughput of one language |",
        "|---|---:|---:|",
        *(f"| {n} | {value:.2f} | {m['throughput'][n]:.2f} |" for n, value in m["median"].items()),
        "",
        f"| for {LANGUAGES} languages | parameters, millions | resident MB |",
        "|---|---:|---:|",
        f"| finetuned models | {p['models'] / 1e6:.1f} | {r['median_mb']['models']:.0f} |",
        f"| one backbone with routes | {p['routes'] / 1e6:.1f} | {r['median_mb']['routes']:.0f} |",
        f"| saved | {100 * p['saved']:.1f} % | {100 * r['saved']:.1f} % |",
        "",
        "Mask bits count as 1/32 of a parameter "
        f"(if they counted nothing: {100 * p['saved_if_masks_count_nothing']:.1f} % saved; the paper says 88.5 %).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_common(parser, "routing")
    parser.add_argument("--runs", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of an utterance (%(default)s)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: of this process (%(default)s)")
    parser.add_argument("--contender", choices=("routes", "models"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(memory(args.contender, args.folder)))
        return
    common.settle(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        model = router(folder)
        found = {"parameters": parameters(model), "switch": switching(folder, model, args)}
        found["mixed"] = mixing(model, args)
        del model
        found["memory"] = memories(folder, args.runs)
    del args.folder
    common.write(args, found, table(found, args))


if __name__ == "__main__":
    main()
