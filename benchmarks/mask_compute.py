"""The computation of masks at wav2vec2-base size (24 FFN weights of 3072 x 768): selection against sorting.

`sort` is the plain way: in every forward pass, for every tensor, sort the magnitudes, fill a float mask in that order
and multiply. `ours` goes through the masks as training does: selection when the scores have changed, and the masked
weight made twice in every pass (forward and backward, as none is kept). The contenders take turns; the table shows
medians.

    python benchmarks/mask_compute.py
    python benchmarks/mask_compute.py --layers 1 --repeats 2 --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from common import add_common, settle, write
from torch import Tensor, nn


def sorted_mask(weight: Tensor, scores: Tensor, k: int) -> Tensor:
    """The masked weight by a full sort."""
    mask = torch.empty(scores.numel())
    order = scores.abs().flatten().sort().indices
    mask[order[:k]] = 0
    mask[order[k:]] = 1
    return weight * mask.view_as(weight)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def single_tensor(repeats: int) -> dict[str, float]:
    """Seconds to find the threshold of one tensor at 10 %, by several ways that all give the same mask."""
    from s3router.masks.binarize import select

    scores = torch.randn(3072, 768)
    k = scores.numel() // 10

    def numpy_partition() -> float:
        magnitudes = np.abs(scores.numpy().ravel())
        magnitudes.partition(k - 1)
        return float(magnitudes[k - 1])

    ways = {
        "torch.sort": lambda: scores.abs().flatten().sort().values[k - 1].item(),
        "torch.kthvalue": lambda: scores.abs().flatten().kthvalue(k).values.item(),
        "torch.topk": lambda: scores.abs().flatten().topk(k, largest=False).values[-1].item(),
        "numpy.partition": numpy_partition,
        "s3router.masks": lambda: select([scores], k)[0].value,
    }
    assert len({way() for way in ways.values()}) == 1, "the ways disagree"
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return {name: statistics.median(values) for name, values in seconds.items()}


def step_of_a_model(layers: int, passes: int, repeats: int) -> dict[str, float]:
    """Seconds of mask work in one optimizer step of `passes` forward passes."""
    from s3router.masks import MaskConfig, attach
    from s3router.masks.weight_mask import WeightMask

    model = nn.ModuleList(
        nn.ModuleDict({"fc1": nn.Linear(768, 3072), "fc2": nn.Linear(3072, 768)}) for _ in range(layers)
    )
    masks: list[WeightMask] = attach(model, MaskConfig(sparsity=0.1, score_init="kaiming_uniform"))
    originals = [m.parametrizations.weight.original for m in model.modules() if hasattr(m, "parametrizations")]
    pairs = list(zip(originals, masks, strict=True))

    def changed() -> None:
        with torch.no_grad():
            for mask in masks:
                mask.scores.add_(0)

    def by_sorting() -> None:
        for _ in range(passes):
            for weight, mask in pairs:
                sorted_mask(weight.detach(), mask.scores.detach(), weight.numel() // 10)

    def ours() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            for _ in range(passes):
                for weight, mask in pairs:
                    # What a linear layer does in training, without its matrix products: forward and backward.
                    mask._select().apply(weight, mask.scores, torch.bfloat16)
                    mask._select().apply(weight, mask.scores, torch.bfloat16)

    seconds: dict[str, list[float]] = {"sort": [], "ours": []}
    for _ in range(repeats):
        for name, function in (("sort", by_sorting), ("ours", ours)):
            changed()
            seconds[name].append(timed(function))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    add_common(parser, "mask_compute", dtype=False)
    args = parser.parse_args()
    settle(args)
    torch.manual_seed(0)
    one = single_tensor(max(args.repeats, 3))
    steps = {passes: step_of_a_model(args.layers, passes, args.repeats) for passes in (1, 4)}
    lines = [
        f"{2 * args.layers} weights of 3072 x 768, sparsity 0.1, {args.threads} thread(s), median of {args.repeats}.",
        "",
        "| mask work of one optimizer step | sort in every pass, s | ours, s | times faster |",
        "|---|---|---|---|",
    ]
    for passes, s in steps.items():
        name = f"{passes} forward pass{'es (accumulation)' if passes > 1 else ''}"
        lines.append(f"| {name} | {s['sort']:.2f} | {s['ours']:.3f} | **{s['sort'] / s['ours']:.0f}** |")
    lines += ["", "| threshold of one tensor | ms |", "|---|---|"]
    lines += [f"| {name} | {1000 * seconds:.1f} |" for name, seconds in one.items()]
    write(args, {"step_seconds": steps, "threshold_seconds": one}, "\n".join(lines))


if __name__ == "__main__":
    main()
