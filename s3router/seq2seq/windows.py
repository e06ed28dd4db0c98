"""Windows of audio for Whisper: how much silence follows an utterance, and where long recordings are cut.

Whisper was trained on windows of 30 s, and without further training it repeats itself in shorter ones. So as published
it is given 30 s. An adapted one has learnt on windows that are as long as the utterance needs, in steps of 5 s: most of
the computing time would go into silence otherwise. An utterance's window depends on its own length alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s3router.data.audio import SAMPLE_RATE, Seconds
from s3router.upstreams.whisper import WINDOW

STEP: Seconds = 5.0
"""From one length of windows to the next."""
TAIL = SAMPLE_RATE // 2
"""Samples of silence behind an utterance at least, unless the longest window leaves no room."""
_QUIET = SAMPLE_RATE // 4  # a cut lies in the middle of the quietest stretch of this length …
_SEARCH = 10 * SAMPLE_RATE  # … among the last samples that still fit a window


def window_of(samples: int, step: Seconds = STEP) -> int:
    """Samples of the window for an utterance of so many samples: a multiple of ``step``, 30 s at most."""
    size = round(step * SAMPLE_RATE)
    return min(WINDOW, -(-(samples + TAIL) // size) * size)


def cut(wave: Tensor, longest: int = WINDOW) -> list[Tensor]:
    """(samples,) -> pieces of ``longest`` samples at most, in their order; the cuts lie where it is quiet."""
    pieces = []
    while len(wave) > longest:
        begin = max(longest - _SEARCH, longest // 2)
        place = _quietest(wave[begin:longest]) + begin
        pieces.append(wave[:place])
        wave = wave[place:]
    return [*pieces, wave]


def _quietest(wave: Tensor) -> int:
    """The middle of the stretch with the least energy."""
    quiet = min(_QUIET, len(wave))
    energy = wave.double().square()
    sums = torch.cat((energy.new_zeros(1), energy.cumsum(0)))
    return int((sums[quiet:] - sums[:-quiet]).argmin()) + quiet // 2
