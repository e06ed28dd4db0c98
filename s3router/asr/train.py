"""Training of one ASR model from a command line.

The options are ESPnet's and those of `s3router.asr.options`. For many runs from one process call `routed_task` once,
and `train` in a forked child for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3router.asr.engine import silently

if TYPE_CHECKING:
    from s3router.asr.task import RoutedASRTask


def routed_task() -> type[RoutedASRTask]:
    """`s3router.asr.task.RoutedASRTask`; the first call imports everything heavy (ESPnet takes seconds)."""
    with silently():
        from s3router.asr.task import RoutedASRTask
    return RoutedASRTask


def train(argv: Sequence[str]) -> None:
    """Train, or go on with what the output folder holds.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is written, where the options or the data are at fault.
        TrainingError: training cannot go on.
    """
    routed_task().main(cmd=list(argv))
