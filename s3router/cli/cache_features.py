"""``s3router cache-features``: fill the feature cache ahead of training.

Training fills the cache as it goes. Done ahead, the first epoch is as fast as the others, and several trainings that
start at once do not compute the same features. Stopped at any moment, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router cache-features", description=__doc__.split(": ", 1)[1])
    result.add_argument("--data-dir", nargs="+", required=True, help="Kaldi-style data directories")
    result.add_argument("--upstream", default="tiny", help="as in training (%(default)s)")
    result.add_argument("--upstream-ckpt", "--upstream_ckpt", help="as in training")
    result.add_argument("--feature-cache", required=True, help="folder of the cache")
    result.add_argument("--max-gb", type=float, help="do not let this upstream's features grow beyond it")
    result.add_argument("--device", default="cpu", help="where the front end runs: cpu, cuda, cuda:1 … (%(default)s)")
    return result


def main(argv: Sequence[str]) -> int:
    """Store the features of every utterance that are not there yet."""
    args = parser().parse_args(argv)
    import torch
    from tqdm import tqdm

    from s3router.data.audio import SAMPLE_RATE, read_audio
    from s3router.data.kaldi import DataDir
    from s3router.upstreams.hub import build

    utterances = [utt for folder in args.data_dir for utt in DataDir.read(Path(folder), need_text=False).utts]
    cache = {"path": args.feature_cache, "max_gb": args.max_gb}
    upstream = build(args.upstream_ckpt, upstream=args.upstream, feature_cache=cache).to(args.device).eval()
    samples = 0
    for utt in tqdm(utterances, unit="utt", desc=f"features of {args.upstream}"):
        wave = torch.from_numpy(read_audio(utt.source))
        upstream.store_features([wave.to(args.device)])
        samples += len(wave)
    store = upstream.feature_store
    stored = "all" if not store.full else "not all (the limit is reached)"
    print(
        f"{len(utterances)} utterances, {samples / SAMPLE_RATE / 3600:.2f} h: {stored} in {store.folder}, "
        f"which holds {len(store)} utterances, {store.data_bytes / 1e9:.3f} GB"
    )
    return 0
