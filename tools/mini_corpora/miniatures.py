"""What the makers of SUPERB's miniatures share: saving recordings, and the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from s3router.data.audio import write_audio

RATE = 16000


def save(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    """float32 (samples,) as wav, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, samples, rate)


def command(description: str, corpora: Mapping[str, Callable[[Path], None]]) -> int:
    """``OUT [--only TASK ...]``: each task's maker fills the folder OUT/TASK. Returns the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=sorted(corpora), choices=sorted(corpora), metavar="TASK")
    args = parser.parse_args()
    for name in args.only:
        corpora[name](args.out / name)
        recordings = [path for path in (args.out / name).rglob("*") if path.suffix in (".wav", ".flac")]
        print(f"{args.out / name}: a miniature, {len(recordings)} recordings")
    return 0
