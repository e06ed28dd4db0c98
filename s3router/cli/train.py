"""``s3router train``: train one ASR model; the same command goes on with it after an interruption."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Train; ESPnet's parser reads the options."""
    from s3router.asr.train import train

    train(argv)
    return 0
