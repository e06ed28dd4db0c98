"""Stretches of a recording that are not silent, as sox's effect ``silence 1 0.1 0.1% -1 0.1 0.1%`` finds them."""

from __future__ import annotations

import numpy as np

from s3router.data.audio import SAMPLE_RATE

WINDOW = SAMPLE_RATE // 50
"""Samples whose root mean square decides whether the last of them is loud."""
LEAST = SAMPLE_RATE // 10
"""Samples that a loud stretch needs to begin, and silence to end it."""
LOUD = 0.001
"""Of full scale: 0.1 %."""


def without_silence(wav: np.ndarray) -> np.ndarray:
    """The stretches that are not silent, one after the other; the same samples as sox 14.4.2 keeps.

    A stretch begins with the first 0.1 s all of whose samples are loud, and ends before the next 0.1 s none of whose
    samples is. A sample is loud where the root mean square of the 20 ms up to it is over 0.1 % of full scale. After a
    silence that window is empty at first, as if nothing had been before.

    Args:
        wav: float (samples,) at 16 kHz, full scale ±1.

    Returns:
        (kept,); nothing of a recording that is silent throughout.
    """
    total = np.concatenate([[0.0], np.cumsum(np.square(wav, dtype=np.float64))])
    enough = WINDOW * LOUD**2
    ends = np.arange(1, len(total))
    loud = total[1:] - total[np.maximum(ends - WINDOW, 0)] > enough
    kept, position = [wav[:0]], 0
    while True:
        new = slice(position, position + WINDOW)  # the window begins anew
        loud[new] = total[1:][new] - total[position] > enough
        start = _first_run(loud, position)
        if start is None:
            break
        end = _first_run(~loud, start + LEAST)
        kept.append(wav[start:end])
        if end is None:
            break
        position = end + LEAST
    return np.concatenate(kept)


def _first_run(flags: np.ndarray, start: int) -> int | None:
    """Where the first `LEAST` neighbours that all are true begin, from ``start`` on; None if there are none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags[start:], [False]]).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    long = np.flatnonzero(ends - begins >= LEAST)
    return int(start + begins[long[0]]) if len(long) else None
