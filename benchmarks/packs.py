"""Mask packs of a wav2vec2-base-sized backbone (24 FFN weights of 3072 x 768): size and load time of all codecs.

The masks are made up: each weight's score is c times its rank of magnitude plus 1 - c times a random number, and the
smallest are removed. c = 0 is a mask at random, c = 1 magnitude pruning. Where trained masks lie depends on the
learning rate of their scores: `s3router inspect --table *.pack` shows it. Times are processor time, medians; the files
are in the page cache, and the backbone's fingerprint is known (it is computed once a backbone, not once a pack).

    python benchmarks/packs.py
    python benchmarks/packs.py --layers 1 --repeats 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import torch
from common import ROOT, add_common, settle, write
from torch import Tensor, nn

from s3router.packs.contents import CODECS

MARKERS = "<!-- benchmarks/packs.py writes from here -->", "<!-- to here -->"


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(768, 3072), nn.Linear(3072, 768)


def build_backbone(layers: int) -> nn.Module:
    """The feed-forward layers alone, with normally distributed weights."""
    backbone = nn.Module()
    backbone.layers = nn.ModuleList(FeedForward() for _ in range(layers))
    for name, parameter in backbone.named_parameters():
        if name.endswith("weight"):
            nn.init.normal_(parameter, std=0.02)
    return backbone


def correlated_masks(
    backbone: nn.Module, sparsity: float, c: float, names: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Masks of matrices of the backbone, by default of all."""
    from s3router.masks.binarize import select

    masks = {}
    for name, weight in backbone.state_dict().items():
        if weight.dim() != 2 or (names is not None and name not in names):
            continue
        flat = weight.abs().flatten()
        ranks = torch.empty(len(flat))
        ranks[flat.argsort()] = torch.arange(len(flat)) / len(flat)
        score = (c * ranks + (1 - c) * torch.rand(len(flat)) + 1).view_as(weight)
        masks[name] = select([score], int(sparsity * score.numel()))[0].keep(score)
    return masks


def make_pack(backbone: nn.Module, masks: dict[str, Tensor]):
    from s3router.packs import MaskPack, PackMeta
    from s3router.packs.fingerprint import weights_hash

    tokens = ("<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz'", "<sos/eos>")
    return MaskPack(
        route="xx",
        masks=masks,
        delta={},
        featurizer={"weights": torch.randn(13)},
        head={"weight": torch.randn(len(tokens), 768), "bias": torch.randn(len(tokens))},
        tokens=tokens,
        meta=PackMeta("benchmark", weights_hash(backbone)),
    )


def seconds(function, repeats: int) -> float:
    """Processor time, the median of several."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return statistics.median(found)


def measure(args: argparse.Namespace, backbone: nn.Module, c: float, folder: Path) -> dict:
    from s3router.packs import read_pack, summary, write_pack

    pack = make_pack(backbone, correlated_masks(backbone, args.sparsity, c))
    known = pack.meta.fingerprint
    row: dict = {"c": c}
    for codec in CODECS:
        path = folder / f"{codec}.pack"
        write = seconds(lambda path=path, codec=codec: write_pack(path, pack, codec, backbone), 1)
        load = seconds(lambda path=path: read_pack(path, backbone, fingerprint=known), args.repeats)
        found = summary.figures(path)
        row[codec] = {
            "bytes": path.stat().st_size,
            "bits_per_weight": found["masks"]["bits_per_weight"],
            "plain_entropy": found["masks"]["plain_entropy"],
            "write_seconds": write,
            "load_seconds": load,
        }
        other = read_pack(path, backbone, fingerprint=known).masks
        assert all(torch.equal(other[name], mask) for name, mask in pack.masks.items()), "the codec is wrong"
    return row


def table(rows: list[dict], sparsity: float, fingerprint_seconds: float) -> str:
    lines = [
        f"Masks at sparsity {sparsity:g}; the plain entropy is {rows[0]['bits']['plain_entropy']:.4f} bits per weight.",
        "",
        "| masks | codec | bits per weight | bytes of the pack | load s | write s |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = {0: "at random (c = 0)", 1: "by magnitude (c = 1)"}.get(row["c"], f"c = {row['c']:g}")
        for codec in CODECS:
            r = row[codec]
            times = f"{r['load_seconds']:.2f} | {r['write_seconds']:.2f}"
            lines.append(f"| {name} | {codec} | {r['bits_per_weight']:.4f} | {r['bytes']:,} | {times} |")
    return "\n".join([*lines, "", f"The fingerprint of these weights takes {fingerprint_seconds:.2f} s."])


def into_docs(text: str) -> None:
    """Put the table between the two markers of docs/packs.md."""
    path = ROOT / "docs" / "packs.md"
    before, rest = path.read_text(encoding="utf-8").split(f"{MARKERS[0]}\n")
    after = rest.split(f"{MARKERS[1]}\n")[1]
    path.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}\n{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common(parser, "packs", dtype=False)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--sparsity", type=float, default=0.1)
    parser.add_argument("--correlations", type=float, nargs="+", default=[0, 0.1, 0.3, 0.7, 1], help="c")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    settle(args)
    torch.manual_seed(0)
    from s3router.packs.fingerprint import weights_hash

    backbone = build_backbone(args.layers)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(args, backbone, c, Path(folder)) for c in args.correlations]
    hashing = seconds(lambda: weights_hash(backbone), args.repeats)
    write(args, {"rows": rows, "fingerprint_seconds": hashing}, table(rows, args.sparsity, hashing))
    if args.output == parser.get_default("output"):
        into_docs(args.output.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
