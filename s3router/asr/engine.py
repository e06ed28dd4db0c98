"""ESPnet's import, quick and quiet."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from s3router.upstreams.deferred import DEFERRED, defer

if TYPE_CHECKING:
    from s3router.asr.task import RoutedASRTask


def routed_task() -> type[RoutedASRTask]:
    """`s3router.asr.task.RoutedASRTask`; the first call imports ESPnet (seconds)."""
    for name in DEFERRED:
        defer(name)
    with contextlib.redirect_stdout(io.StringIO()):  # ESPnet prints which optional packages it misses
        from s3router.asr.task import RoutedASRTask
    return RoutedASRTask
