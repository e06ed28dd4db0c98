"""``s3router superb-search``: spoken queries in spoken documents (QUESST 2014), by time warping, untrained.

Every layer of the frozen upstream is tried on the development queries; the one with the highest maximum term-weighted
value, on the leaderboard's scale where the ground truth of all languages is known, searches for the test queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    made = argparse.ArgumentParser(prog="s3router superb-search", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--documents", type=Path, required=True, help="Kaldi directory with wav.scp")
    add("--valid-dir", type=Path, required=True, help="the same of queries, with hits: decides the layer")
    add("--test-dirs", type=Path, nargs="+", required=True, help="the same, searched with that layer")
    add("--output-dir", type=Path, required=True, help="RESULTS.md, predictions, the submission's file")
    add("--hidden-dir", type=Path, required=True, help="keeps the hidden states: many gigabytes")
    add("--upstream", default="tiny", help="tiny, a name of s3router upstream list, or one of s3prl")
    add("--upstream-ckpt", help="its checkpoint: path or URL")
    add("--layers", type=int, nargs="+", help="the layers to try, from 0 (default: all)")
    add("--device", default="cpu", help="cpu or cuda, for the upstream")
    return made


def main(argv: Sequence[str]) -> int:
    """Search, and print the test sets' values."""
    args = parser().parse_args(argv)
    from s3router.superb.qbe.search import search_sets

    results = search_sets(
        *(args.documents, args.valid_dir, args.test_dirs, args.output_dir, args.hidden_dir),
        *(args.upstream, args.upstream_ckpt, args.layers, args.device, partial(print, flush=True)),
    )
    for folder, result in zip(args.test_dirs, results, strict=True):
        english = f" (English only: {result['mtwv_english']:.4f})" if "mtwv_english" in result else ""
        print(
            f"{folder}: MTWV {result['mtwv']:.4f}{english} of {result['n_queries_with_hits']} queries with hits in "
            f"{result['n_documents']} documents, layer {result['layer']}, {result['track']} track"
        )
    return 0
