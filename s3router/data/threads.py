"""Threads that read audio, and end when the command is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from s3router.data.audio import no_pipes


@contextlib.contextmanager
def threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of at least one thread. When the block fails or is interrupted, waiting jobs and running pipes end."""
    pool = ThreadPoolExecutor(max_workers=max(1, number))
    try:
        yield pool
    except BaseException:
        with no_pipes():
            pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
