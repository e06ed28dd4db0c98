"""Costs of many languages on one backbone, on paper: GPU hours, disk, serving memory. Nothing is trained or timed.

It combines the shape of the upstream (conf/upstreams), two measured ratios (a training step with masks to one of weight
finetuning, results/train_step_base.json, on a CPU; the size of a coded mask to its entropy, results/packs.json), the
paper's settings, and assumptions about the GPU that are options.

    python benchmarks/scale.py
    python benchmarks/scale.py --languages 11 --sparsity 0.1 --upstream wav2vec2_base --updates 20000
    python benchmarks/scale.py --write docs/scale.md        the table between its two marks
    python benchmarks/scale.py --ml-superb --upstream mms_1b --write docs/ml_superb.md     154 languages
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import yaml

FRAMES = 50  # a second, of all public models
CONVOLUTIONS = [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]  # width, kernel, stride
SAMPLE_RATE = 16000
PAPER_SECONDS = 600.0  # of audio per update, in the paper's command for Common Voice
ML_SUPERB = {
    "languages": 154,
    "sparsity": 0.10,
    "tokens": 60,
    "updates": 1000,
    "batch_seconds": 75.0,
    "utterance_seconds": 7.0,
}
"""Of egs/ml_superb/asr1/conf/table.yaml; 266.7 h in 142,876 utterances are 6.7 s each."""


@dataclass(frozen=True)
class Shape:
    """Sizes of an upstream: layers, width of the transformer, width of its feed-forward layers, parameters."""

    layers: int
    width: int
    ffn: int
    parameters: float

    @classmethod
    def read(cls, name: str) -> Shape:
        if name in SHAPES:
            return SHAPES[name]
        size = yaml.safe_load((common.ROOT / "conf" / "upstreams" / f"{name}.yaml").read_text())["size"]
        return cls(size["layers"], size["width"], size["ffn"], 1e6 * size["parameters_million"])

    @property
    def masked(self) -> int:
        """Weights of all feed-forward linears."""
        return self.layers * 2 * self.width * self.ffn

    def forward(self, seconds: float) -> float:
        """Floating-point operations for one second of audio in an utterance of that many seconds.

        3 % less than torch's FlopCounterMode finds at both sizes: positions and the first projection are left out.
        """
        rate, inputs, convolutions = SAMPLE_RATE, 1, 0.0
        for width, kernel, stride in CONVOLUTIONS:
            rate /= stride
            convolutions += 2 * inputs * width * kernel * rate
            inputs = width
        return convolutions + self.transformer(seconds)

    def transformer(self, seconds: float) -> float:
        """The same without the convolutions, which are frozen in training: no backward pass."""
        linears = self.layers * (4 * self.width**2 + 2 * self.width * self.ffn)
        attention = self.layers * 2 * FRAMES * seconds * self.width  # scores and their sum over values
        return 2 * FRAMES * (linears + attention)

    def training(self, seconds: float) -> float:
        """Forward, and backward through the transformer at twice its forward cost (weight finetuning)."""
        return self.forward(seconds) + 2 * self.transformer(seconds)


# Sizes of facebook/mms-1b's config.json; parameters counted from them as those of conf/upstreams are.
SHAPES = {"mms_1b": Shape(48, 1280, 5120, 962.5e6)}


def entropy(sparsity: float) -> float:
    """Bits per weight of a mask without structure."""
    return -sum(p * math.log2(p) for p in (sparsity, 1 - sparsity) if p > 0)


def measured() -> dict[str, Any]:
    """What was measured at base size: of a training step the time ratio, and operations a second that it reached; the
    size of coded masks; seconds of a switch of routes for each masked weight.
    """
    step = json.loads((common.RESULTS / "train_step_base.json").read_text())
    found = step["results"][0]
    work = 4 * 10 * Shape.read("hubert_base").training(10)
    random_masks = next(row for row in json.loads((common.RESULTS / "packs.json").read_text())["rows"] if row["c"] == 0)
    routing = json.loads((common.RESULTS / "routing.json").read_text())
    return {
        "coded": random_masks["coded"]["bits_per_weight"] / random_masks["coded"]["plain_entropy"],
        "ratio": found["to_the_first"]["router"]["seconds"],
        "where": f"{step['settings']['threads']} CPU thread(s), {step['settings']['dtype']}",
        "switch": routing["switch"]["median"]["switch of routes"] / routing["parameters"]["mask_bits"],
        "gigaflops": work / found["median"]["weight"]["seconds"] / 1e9,
    }


def estimate(args: argparse.Namespace) -> tuple[list[str], list[tuple[str, str, str]]]:
    """(assumptions, rows of what / masks / finetuned copies)."""
    shape, step = Shape.read(args.upstream), measured()
    audio = args.updates * args.batch_seconds  # seconds of audio that one language's training reads
    work = audio * shape.training(args.utterance_seconds)
    hours = work / (args.tflops * 1e12 * args.utilisation) / 3600
    many, gigabyte = args.languages, 1e9
    copies, weights = 4 * shape.parameters, 4 * shape.parameters
    head = 4 * (shape.width + 1) * args.tokens
    bits_per_weight = step["coded"] * entropy(args.sparsity)
    coded, bits = bits_per_weight * shape.masked / 8, shape.masked / 8
    working = 4 * shape.masked
    masked = {
        "disk": weights + many * (coded + head),
        "disk, plain bits": weights + many * (bits + head),
        "memory": weights + working + many * (bits + head),
    }
    half = (weights + working) / 2 + many * (bits + head / 2)
    finetuned = {"disk": many * copies, "memory": many * copies}
    parameters = shape.parameters + many * (args.tokens * (shape.width + 1)), many * shape.parameters
    with_masks = parameters[0] + many * shape.masked / 32  # a bit counts as the 32nd part of a parameter
    million, masked_million = shape.parameters / 1e6, shape.masked / 1e6
    operations = shape.training(args.utterance_seconds) / 1e9
    paper = "" if args.batch_seconds == PAPER_SECONDS else f"; the paper's command has {PAPER_SECONDS:g} s"
    like = "" if args.ml_superb else " as in the paper"
    assumptions = [
        f"{many} languages on {args.upstream}: {million:.0f} M parameters, of which {masked_million:.0f} M are masked "
        f"(feed-forward layers) at sparsity {args.sparsity:g}; {args.tokens} tokens each; weights in float32.",
        f"Training{like}: {args.updates:,d} updates of {args.batch_seconds:g} s of audio per language "
        f"({audio / 3600:,.0f} h of audio are read{paper}), utterances of {args.utterance_seconds:g} s.",
        f"{operations:.0f} GFLOP for each second of audio with weight finetuning: counted for matrix products and "
        "convolutions; the backward pass at twice the forward one, and none through the frozen convolutions.",
        f"A step with masks takes {step['ratio']:.2f} of one with weight finetuning: measured at base size "
        f"({step['where']}), which by the same count of operations reached {step['gigaflops']:.0f} GFLOP/s.",
        f"A GPU with a peak of {args.tflops:g} TFLOP/s in bf16, {100 * args.utilisation:g} % of it used: assumed, not "
        "measured. Half the use is twice the hours.",
        f"A pack on disk is its head and its coded mask: {bits_per_weight:.3f} bits per weight, "
        f"{step['coded']:.4f} times the plain entropy, as measured for random masks (masks that follow the weights' "
        "magnitudes take less). In memory it is one bit per weight.",
        "Memory: weights only, without activations; one working copy of the masked weights.",
        f"A switch of routes: {1e9 * step['switch']:.2f} ns for each masked weight, as measured at base size "
        "(results/routing.md).",
    ]
    rows = [
        ("training, GPU hours per language", f"{step['ratio'] * hours:.2f}", f"{hours:.2f}"),
        (f"training, GPU hours, {many} languages", f"{step['ratio'] * hours * many:,.0f}", f"{hours * many:,.0f}"),
        ("one language more on disk, MB", f"{(coded + head) / 1e6:.1f}", f"{copies / 1e6:,.0f}"),
        ("all on disk, GB", f"{masked['disk'] / gigabyte:.1f}", f"{finetuned['disk'] / gigabyte:,.0f}"),
        ("all on disk with plain bits, GB", f"{masked['disk, plain bits'] / gigabyte:.1f}", ""),
        ("one language more in memory, MB", f"{(bits + head) / 1e6:.1f}", f"{copies / 1e6:,.0f}"),
        ("all in memory, GB", f"{masked['memory'] / gigabyte:.1f}", f"{finetuned['memory'] / gigabyte:,.0f}"),
        (
            "all in memory, weights in 16 bits, GB",
            f"{half / gigabyte:.1f}",
            f"{finetuned['memory'] / 2 / gigabyte:,.0f}",
        ),
        ("a switch of routes on two CPU cores, ms", f"{1e3 * step['switch'] * shape.masked:.0f}", ""),
        (
            "parameters, M (a mask's bit counted as 1/32)",
            f"{with_masks / 1e6:,.0f} ({with_masks / parameters[1] - 1:+.1%})",
            f"{parameters[1] / 1e6:,.0f}",
        ),
    ]
    return assumptions, rows


def table(args: argparse.Namespace) -> str:
    """The assumptions and the table in markdown."""
    assumptions, rows = estimate(args)
    lines = ["Assumptions:", "", *(f"- {text}" for text in assumptions), ""]
    lines += ["| | one backbone, masks | finetuned copies |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def parser() -> argparse.ArgumentParser:
    """The options; their defaults are the case in docs/scale.md."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--languages", type=int, default=100)
    result.add_argument("--upstream", default="xls_r_300m", help="a file of conf/upstreams (%(default)s)")
    result.add_argument("--sparsity", type=float, default=0.06, help="share of weights removed (%(default)s)")
    result.add_argument("--tokens", type=int, default=60, help="of each language (%(default)s)")
    result.add_argument("--updates", type=int, default=13000, help="the paper's for Common Voice (%(default)s)")
    result.add_argument("--batch-seconds", type=float, default=320.0, help="2 GPUs x 4 x 640,000 samples (%(default)s)")
    result.add_argument("--utterance-seconds", type=float, default=5.0, help="(%(default)s)")
    result.add_argument("--tflops", type=float, default=312.0, help="peak of the GPU in bf16; an A100's (%(default)s)")
    result.add_argument("--utilisation", type=float, default=0.2, help="share of the peak that is used (%(default)s)")
    result.add_argument("--ml-superb", action="store_true", help="154 languages and the settings of egs/ml_superb")
    result.add_argument("--write", type=Path, help="put the table between the two marks of this file")
    return result


def main() -> None:
    made = parser()
    if made.parse_known_args()[0].ml_superb:
        made.set_defaults(**ML_SUPERB)
    args = made.parse_args()
    text = table(args)
    print(text)
    if args.write:
        name = f"scale.py {args.upstream}" if args.ml_superb else "scale.py"
        begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
        before, rest = args.write.read_text(encoding="utf-8").split(begin)
        args.write.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
