"""``s3router targets``: the weights of an upstream that a mask would cover, by role, before anything is trained."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3router.masks import Target


def parser() -> argparse.ArgumentParser:
    """The options of the subcommand."""
    result = argparse.ArgumentParser(prog="s3router targets", description=__doc__)
    result.add_argument("--upstream", default="tiny", help="a public name, or one of s3prl (%(default)s)")
    result.add_argument("--upstream-ckpt", "--upstream_ckpt", help="its checkpoint: path or URL")
    result.add_argument(
        "--targets",
        nargs="+",
        default=["ffn"],
        help="roles (ffn, attention, projection) or name patterns (%(default)s)",
    )
    result.add_argument("--sparsity", type=float, help="share of weights removed (default: as in training)")
    result.add_argument("--names", action="store_true", help="one line for every weight")
    return result


def report(targets: Sequence[Target], sparsity: float, total: int, names: bool = False) -> str:
    """A table of the targets by role; ``total`` is the number of parameters of the whole model."""
    from s3router.masks.binarize import removed_count

    lines = []
    if names:
        lines += [f"{t.name}  {t.shape[0]}x{t.shape[1]}  {t.role or 'by pattern'}" for t in targets] + [""]
    groups: dict[str, list[int]] = collections.defaultdict(list)
    for target in targets:
        groups[target.role or "by pattern"].append(target.shape[0] * target.shape[1])
    sizes = [size for group in groups.values() for size in group]
    for name, group in [*groups.items(), ("together", sizes)]:
        share = sum(group) / total
        lines.append(f"{name:12s} {len(group):4d} tensors  {sum(group):12,d} weights  {share:6.1%} of all")
    removed = sum(removed_count(sparsity, size) for size in sizes)
    lines.append(f"a mask of sparsity {sparsity:g} removes {removed:,d} weights and takes {sum(sizes) / 8e6:.2f} MB")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Load the upstream, find the targets, print the table."""
    args = parser().parse_args(argv)
    from s3router.masks import MaskConfig, find_targets

    config = MaskConfig.from_dict({"targets": args.targets, "sparsity": args.sparsity})
    from s3router.upstreams.hub import build

    backbone = build(ckpt=args.upstream_ckpt, upstream=args.upstream).backbone
    total = sum(parameter.numel() for parameter in backbone.parameters())
    print(report(find_targets(backbone, config), config.sparsity, total, args.names))
    return 0
