"""Fill the feature cache ahead of training: ``python -m s3router.upstreams.cache_features --help``.

Training fills the cache as it goes; done ahead, the first epoch is as fast as the others, and several trainings that
start at once do not compute the same features. Stopped at any moment, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.errors import ConfigError, S3RouterError

if TYPE_CHECKING:
    import numpy as np

    from s3router.upstreams.routed import RoutedUpstream


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = _parser().parse_args(arguments)
    try:
        return _run(args)
    except S3RouterError as error:
        print(f"cache_features: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cache_features", description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", nargs="+", required=True, help="Kaldi-style data directories")
    parser.add_argument("--upstream", default="tiny", help="as in training")
    parser.add_argument("--upstream-ckpt", help="as in training")
    parser.add_argument("--feature-cache", required=True, help="folder of the cache")
    parser.add_argument("--max-gb", type=float, help="do not let this upstream's features grow beyond it")
    parser.add_argument("--device", default="cpu", help="where the convolutions run: cpu, cuda, cuda:1 ...")
    return parser


def _run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from s3router.data.audio import read_audio
    from s3router.data.kaldi import DataDir
    from s3router.upstreams.hub import build
    from s3router.upstreams.huggingface import SAMPLE_RATE

    utterances = [utt for folder in args.data_dir for utt in DataDir.read(Path(folder), need_text=False).utts]
    cache = {"path": args.feature_cache, "max_gb": args.max_gb}
    upstream = build(args.upstream_ckpt, upstream=args.upstream, feature_cache=cache).to(args.device).eval()
    with tqdm(utterances, unit="utt", desc=f"features of {args.upstream}") as bar:
        seconds = sum(store_all(upstream, (read_audio(utt.source) for utt in bar))) / SAMPLE_RATE
    store = upstream.feature_store
    stored = "all" if not store.full else "not all (the limit is reached)"
    print(
        f"{len(utterances)} utterances, {seconds / 3600:.2f} h: {stored} in {store.folder}, "
        f"which holds {len(store)} utterances, {store.data_bytes / 1e9:.3f} GB"
    )
    return 0


def store_all(upstream: RoutedUpstream, waveforms: Iterable[np.ndarray]) -> Iterator[int]:
    """Put each waveform (samples,) at 16 kHz into the upstream's cache; yields its number of samples once it is in."""
    import torch

    if upstream.feature_store is None:
        raise ConfigError("the upstream was built without feature_cache.")
    device = next(upstream.parameters()).device
    for waveform in waveforms:
        upstream.store_features([torch.from_numpy(waveform).to(device)])
        yield len(waveform)


if __name__ == "__main__":
    sys.exit(main())
