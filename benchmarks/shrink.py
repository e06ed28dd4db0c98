"""Dense against shrunk models: time of a forward pass from waveform to log probabilities, and bytes of the weights.

Contenders: the dense model; half of the hidden units removed; hidden units and heads removed until 70 % of all
parameters are gone. Which ones go makes no difference to the time, so the models are random. Arithmetic: float32,
bfloat16 (autocast), int8 (torch's dynamic quantisation of linear layers), and ONNX Runtime in float32. All contenders
of an arithmetic are in memory at once and take turns; figures are medians. On a busy machine take --threads 1 --clock
cpu: then waiting for the processor does not count.

    python benchmarks/shrink.py                               # both sizes, 1 s and 10 s, one and two threads
    python benchmarks/shrink.py --size whisper_base --seconds 1 --threads 1 --runs 3 --arithmetic float32
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from common import RESULTS, WHISPER, random_hubert, random_whisper, write

SIZES = ("base", WHISPER)
ARITHMETIC = ("float32", "bfloat16", "int8", "onnx")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SHARES = {"dense": None, "ffn -50 %": None, "all -70 %": 0.7}
"""Contender -> share of all parameters that go."""


def contenders(size: str) -> dict:
    """Contender -> a model with a CTC head of 32 tokens, in evaluation mode."""
    import torch

    from s3router.serving.baked_model import CTC

    torch.manual_seed(0)
    plain = random_whisper(0.0).plain() if size == WHISPER else random_hubert(size, 0.0).eval()
    head = {"weight": torch.randn(32, plain.config.hidden_size), "bias": torch.zeros(32)}
    settings = {"normalize_audio": size != WHISPER, "normalize_eps": 1e-7, "normalize_features": False}
    models = {"dense": plain, "ffn -50 %": shrunk(plain, 0.5, ("ffn",))}
    total, low, high = count(plain), 0.0, 0.99
    while high - low > 0.01:  # parameters fall with the sparsity
        middle = (low + high) / 2
        gone = 1 - count(shrunk(plain, middle, ("ffn", "attention"))) / total
        low, high = (middle, high) if gone < SHARES["all -70 %"] else (low, middle)
    models["all -70 %"] = shrunk(plain, high, ("ffn", "attention"))
    return {name: CTC(model, head, settings).eval() for name, model in models.items()}


def shrunk(plain, sparsity: float, targets: tuple[str, ...]):
    """A copy without so many of its units."""
    from s3router.masks import MaskConfig, attach, bake, masks_of
    from s3router.prune.shrink import shrink

    model = copy.deepcopy(plain)
    attach(model, MaskConfig(sparsity=sparsity, targets=targets, granularity="group", score_init="weight"))
    masks = masks_of(model)
    shrink(bake(model), masks)
    return model


def count(model) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


def forward(model, arithmetic: str, threads: int) -> Callable:
    """wave (1, samples) -> log probabilities, in an arithmetic."""
    import torch

    if arithmetic == "onnx":
        return onnx_session(model, threads)
    if arithmetic == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces another library for it
            model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, torch.qint8)

    def run(wave):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "bfloat16"):
            return model(wave)

    return run


def onnx_session(model, threads: int) -> Callable:
    import onnxruntime

    from s3router.serving.onnx_export import export

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(model, path, 0.1)  # random models have large logits
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda wave: session.run(None, {"wave": wave.numpy()})


def measure(args: argparse.Namespace, size: str) -> list[dict]:
    """Rows of one size: median seconds of each contender."""
    import torch

    models, rows = contenders(size), []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for arithmetic in args.arithmetic:
            runs = {name: forward(model, arithmetic, threads) for name, model in models.items()}
            for seconds in args.seconds:
                wave = 0.1 * torch.randn(1, round(16000 * seconds), generator=torch.Generator().manual_seed(0))
                times: dict[str, list[float]] = {name: [] for name in runs}
                for turn in range(args.runs + 1):
                    for name, run in runs.items():
                        begun = CLOCKS[args.clock]()
                        run(wave)
                        if turn:  # the first one warms up
                            times[name].append(CLOCKS[args.clock]() - begun)
                medians = {name: statistics.median(found) for name, found in times.items()}
                rows.append({"size": size, "threads": threads, "arithmetic": arithmetic, "audio": seconds, **medians})
    sizes = {name: count(model) for name, model in models.items()}
    return [row | {"parameters": sizes} for row in rows]


def table(rows: list[dict], args: argparse.Namespace) -> str:
    names = list(SHARES)
    lines = [
        f"{'Processor' if args.clock == 'cpu' else 'Wall'} time in ms, median of {args.runs}; in brackets, how many "
        "times as fast as the dense model.",
        "",
        f"| model | audio | threads | arithmetic | {' | '.join(names)} |",
        f"|---|---:|---:|---|{'---:|' * len(names)}",
    ]
    for row in rows:
        cells = [f"{1000 * row[name]:.1f} ({row['dense'] / row[name]:.2f})" for name in names]
        where = f"| {row['size']} | {row['audio']:g} s | {row['threads']} | {row['arithmetic']} "
        lines.append(f"{where}| {' | '.join(cells)} |")
    for size in dict.fromkeys(row["size"] for row in rows):
        found = next(row for row in rows if row["size"] == size)["parameters"]
        shares = ", ".join(f"{name} {n / 1e6:.1f} M ({n / found['dense'] - 1:+.0%})" for name, n in found.items())
        lines += ["", f"Parameters of {size}: {shares}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", nargs="+", choices=SIZES, default=list(SIZES))
    add("--seconds", nargs="+", type=float, default=[1.0, 10.0], help="of audio")
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--arithmetic", nargs="+", choices=ARITHMETIC, default=list(ARITHMETIC))
    add("--runs", type=int, default=7, help="timed passes of each contender")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor time")
    add("--output", type=Path, default=RESULTS / "shrink.json", help="a .md goes beside it")
    args = parser.parse_args()
    rows = [row for size in args.size for row in measure(args, size)]
    write(args, {"rows": rows}, table(rows, args))


if __name__ == "__main__":
    main()
