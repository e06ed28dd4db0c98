"""Time saved by the feature cache: a training step with the frozen convolutions computed live, and from the cache.

Both contenders are the same masked model, in one process, taking turns on the same batches; the table shows medians.
Audio is random and the weights are too: neither changes what a step costs.

    python benchmarks/feature_cache.py                     # both sizes
    python benchmarks/feature_cache.py --size tiny --steps 5 --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

from common import add_common, add_size, chosen_sizes, random_hubert, settle, write

CONTENDERS = ("live", "cached")


def build(size: str, cache: str | None):
    """A random masked HuBERT behind our upstream."""
    import torch

    from s3router.masks import MaskConfig, attach
    from s3router.upstreams.front_end import CacheConfig
    from s3router.upstreams.huggingface import HuggingFaceUpstream
    from s3router.upstreams.routed import RoutedUpstream

    torch.manual_seed(0)
    expert = HuggingFaceUpstream(random_hubert(size, dropout=0.0), normalize=True)
    upstream = RoutedUpstream(expert, cache=None if cache is None else CacheConfig(cache))
    attach(upstream.backbone, MaskConfig(sparsity=0.1))
    return upstream.train()


def measure(args: argparse.Namespace, size: str, folder: str) -> dict:
    """Seconds of a step by contender, of filling the cache, and the bytes that an hour of speech takes in it."""
    import torch

    generator = torch.Generator().manual_seed(0)
    lengths = [int(16000 * args.seconds * (1 - 0.3 * row / args.utterances)) for row in range(args.utterances)]
    batches = [[torch.randn(n, generator=generator) for n in lengths] for _ in range(args.batches)]
    models = {"live": build(size, None), "cached": build(size, folder)}
    optimizers = {
        name: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], fused=True)
        for name, model in models.items()
    }

    start = time.perf_counter()
    for batch in batches:
        models["cached"].store_features(batch)
    fill = time.perf_counter() - start

    def step(name: str, batch: list) -> float:
        began = time.perf_counter()
        optimizers[name].zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16"):
            hidden = models[name](batch)["hidden_states"][-1]
        hidden.float().pow(2).mean().backward()
        optimizers[name].step()
        return time.perf_counter() - began

    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(args.warmup + args.steps):
        for name in CONTENDERS:
            taken = step(name, batches[number % len(batches)])
            if number >= args.warmup:
                seconds[name].append(taken)
    store = models["cached"].feature_store
    audio = sum(lengths) * args.batches / 16000
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "size": size,
        "median_seconds": medians,
        "cached_to_live": medians["cached"] / medians["live"],
        "fill_times_real_time": audio / fill,
        "gb_in_10_hours": store.data_bytes / audio * 36000 / 1e9,
        "seconds": seconds,
    }


def table(results: list[dict], args: argparse.Namespace) -> str:
    """The results as a Markdown table."""
    lines = [
        f"{args.utterances} utterances of up to {args.seconds:g} s, {args.dtype}, "
        f"{args.threads} thread(s), median of {args.steps} steps each, taking turns.",
        "",
        "| model | live, s / step | cached, s / step | cached / live | filling, times real time | 10 h of speech, GB |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        live, cached = (r["median_seconds"][name] for name in CONTENDERS)
        lines.append(
            f"| {r['size']} | {live:.2f} | {cached:.2f} | **{r['cached_to_live']:.2f}** "
            f"| {r['fill_times_real_time']:.0f} | {r['gb_in_10_hours']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size(parser)
    parser.add_argument("--steps", type=int, default=7, help="timed steps a contender")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--batches", type=int, default=3, help="different batches")
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the longest utterance")
    add_common(parser, "feature_cache")
    args = parser.parse_args()
    settle(args)
    results = []
    for size in chosen_sizes(args):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(args, size, folder))
    write(args, {"results": results}, table(results, args))


if __name__ == "__main__":
    main()
