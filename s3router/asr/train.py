"""Training of one ASR model from a command line.

The options are ESPnet's and those of `s3router.asr.options`. For many runs from one process call `preload` once, and
`train` in a forked child for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3router.asr import engine


def preload() -> None:
    """Import everything heavy (ESPnet takes seconds), for children that are forked afterwards."""
    engine.routed_task()


def train(argv: Sequence[str]) -> None:
    """Train, or go on with what the output folder holds.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is written, where the options or the data are at fault.
        TrainingError: training cannot go on.
    """
    engine.routed_task().main(cmd=list(argv))
