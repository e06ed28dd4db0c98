"""Comparing many packs pairwise: 50 of base size (24 FFN weights of 3072 x 768) in under 60 s and 2 GB.

Masks at random at sparsity 0.1, written as packs first. The time is that of reading all of them, with their checks,
and of comparing all pairs, by layer and role, with chance levels; the memory is the process's highest.

    python benchmarks/analyze.py
    python benchmarks/analyze.py --packs 5 --layers 2
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import add_common, settle, write

FILE = "{:03d}.pack"


def write_packs(folder: Path, packs: int, layers: int, sparsity: float) -> None:
    from s3router.packs import MaskPack, PackMeta, write_pack

    shapes = {}
    for layer in range(layers):
        shapes[f"layers.{layer}.fc1.weight"] = 3072, 768
        shapes[f"layers.{layer}.fc2.weight"] = 768, 3072
    meta = PackMeta("benchmark", "0" * 32, mask={"sparsity": sparsity})
    generator = np.random.default_rng(0)
    for number in range(packs):
        masks = {
            name: torch.from_numpy(generator.random(shape, np.float32) >= sparsity) for name, shape in shapes.items()
        }
        write_pack(folder / FILE.format(number), MaskPack(f"r{number}", masks, {}, {}, {}, None, meta))


def measure(folder: Path, packs: int) -> dict[str, float]:
    from s3router.analysis.mask_set import mask_set, read_sources
    from s3router.analysis.similarity import overlaps

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, cpu = time.perf_counter(), time.process_time()
    masks = mask_set(read_sources([folder / FILE.format(number) for number in range(packs)]))
    read, cpu_read = time.perf_counter(), time.process_time()
    values = [found.z[0, 1] for _, _, found, _ in overlaps(masks).scopes()]
    assert all(abs(value) < 6 for value in values), "independent masks are not at chance"
    return {
        "read_seconds": read - started,
        "compare_seconds": time.perf_counter() - read,
        "read_cpu_seconds": cpu_read - cpu,
        "compare_cpu_seconds": time.process_time() - cpu_read,
        "modules_mb": before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common(parser, "analyze", dtype=False)
    parser.add_argument("--packs", type=int, default=50)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--sparsity", type=float, default=0.1)
    parser.add_argument("--only-write", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    settle(args)
    if args.only_write:
        write_packs(args.only_write, args.packs, args.layers, args.sparsity)
        return
    with tempfile.TemporaryDirectory() as folder:
        # in a process of its own: the memory that writing takes is no part of this
        own = [sys.executable, __file__, "--only-write", folder, "--packs", args.packs, "--layers", args.layers]
        subprocess.run([*map(str, own), "--sparsity", str(args.sparsity)], check=True)
        found = measure(Path(folder), args.packs)
    pairs = args.packs * (args.packs - 1) // 2
    lines = [
        f"{args.packs} packs of {2 * args.layers} matrices of 3072 × 768, {pairs:,} pairs.",
        "",
        "| step | seconds | processor seconds |",
        "|---|---:|---:|",
        f"| reading, with checksums | {found['read_seconds']:.1f} | {found['read_cpu_seconds']:.1f} |",
        f"| comparing all pairs | {found['compare_seconds']:.1f} | {found['compare_cpu_seconds']:.1f} |",
        "",
        f"Highest resident memory {found['peak_mb']:.0f} MB (2²⁰ bytes); Python and its modules take "
        f"{found['modules_mb']:.0f} MB of it.",
    ]
    write(args, found, "\n".join(lines))


if __name__ == "__main__":
    main()
