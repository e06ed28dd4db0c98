"""Threads that read audio, and end when the command is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

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


def read_ahead(
    read: Callable[[int], np.ndarray], batches: Sequence[Sequence[int]]
) -> Iterator[tuple[Sequence[int], list[np.ndarray]]]:
    """Batches of indices with what `read` gives for each; the next batch is read while its user works on this one."""

    def whole(batch: Sequence[int]) -> list[np.ndarray]:
        return [read(index) for index in batch]

    with threads(1) as reader:
        waiting = [reader.submit(whole, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            waves = waiting.pop().result()
            waiting += [reader.submit(whole, following) for following in batches[number + 1 : number + 2]]
            yield batch, waves
