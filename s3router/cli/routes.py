"""Options and output that the commands on packs share."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from s3router.errors import ConfigError

if TYPE_CHECKING:
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.serving.speech_routes import RoutedCTC

T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--routes``, ``--backbone``, ``--device``, batches."""
    add = parser.add_argument
    add("--routes", nargs="+", type=Path, required=True, metavar="PACK", help="mask packs (s3router pack)")
    add("--backbone", "--upstream", help="the upstream's name (default: what the first pack names)")
    add("--backbone-ckpt", "--upstream-ckpt", help="its checkpoint: path or URL")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 … (%(default)s)")
    add("--batch-seconds", type=float, default=80.0, help="audio in a batch, padding included; 0: singly (%(default)s)")
    add("--max-seconds", type=float, default=30.0, help="longer recordings go in chunks of this (%(default)s)")
    add("--overlap-seconds", type=float, default=4.0, help="of neighbouring chunks (%(default)s)")
    add("--bf16", action="store_true", help="bfloat16 autocast")


def batch_options(args: argparse.Namespace) -> BatchOptions:
    """What `add_options` was told of batches; raises ConfigError."""
    from s3router.asr.ctc_decode import BatchOptions

    return BatchOptions(args.batch_seconds, args.max_seconds, args.overlap_seconds, args.bf16)


def load(args: argparse.Namespace) -> RoutedCTC:
    """The resident model."""
    from s3router.serving.speech_routes import load_routes

    return load_routes(args.routes, args.backbone, args.backbone_ckpt, args.device)


def pairs(given: Sequence[str], option: str) -> dict[str, Path]:
    """``["es=data/es/test"]`` -> {"es": Path("data/es/test")}; raises ConfigError."""
    found: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path or name in found:
            raise ConfigError(f"{option} {text}: expected LANG=DIR, each language once, as in es=data/es/test")
        found[name] = Path(path)
    return found


def with_progress(items: Iterable[T], total: int, printed: bool) -> Iterator[T]:
    """The same items; for many of them, how far it is and how long it takes still.

    On a terminal only, and not where they are `printed` to the same one: that is progress enough.
    """
    from s3router.training.progress import clock

    shown = total > 8 and sys.stderr.isatty() and not (printed and sys.stdout.isatty())
    started = time.monotonic()
    for number, item in enumerate(items, 1):
        if shown:
            left = (time.monotonic() - started) / number * (total - number)
            bar = "#" * (30 * number // total)
            print(f"\r[{bar:30}] {number}/{total}  {clock(left)} left ", end="", file=sys.stderr, flush=True)
        yield item
    if shown:
        print(file=sys.stderr)
