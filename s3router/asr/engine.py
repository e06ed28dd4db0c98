"""ESPnet's import, without what it prints."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3router.asr.task import RoutedASRTask


def routed_task() -> type[RoutedASRTask]:
    """`s3router.asr.task.RoutedASRTask`; the first call imports ESPnet (seconds)."""
    # ESPnet prints which optional packages it misses.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from s3router.asr.task import RoutedASRTask
    return RoutedASRTask
