"""Diarization error rate of frame-wise speaker activity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from s3router.errors import DataError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class DiarizationErrors:
    """Counts in frames × speakers; those of several recordings add up with ``+``."""

    scored: int
    missed: int
    false_alarm: int
    confused: int

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            self.scored + other.scored,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confused + other.confused,
        )

    @property
    def der(self) -> float:
        """(missed + false alarm + confused) / scored. Raises DataError where nobody speaks in the reference."""
        if not self.scored:
            raise DataError("nobody speaks in the reference: a diarization error rate is not defined")
        return (self.missed + self.false_alarm + self.confused) / self.scored


def diarization_errors(found: np.ndarray, reference: np.ndarray, collar: int = 0) -> DiarizationErrors:
    """Errors of one recording, with the assignment of speakers that makes the fewest.

    Args:
        found: bool (frames, speakers), whether each speaks; speakers may be fewer or more than in the reference.
        reference: bool (frames, speakers).
        collar: frames around every change of the reference that are not scored.

    Raises:
        DataError: other than two dimensions, or different numbers of frames.
    """
    import numpy as np

    found, reference = np.asarray(found, dtype=bool), np.asarray(reference, dtype=bool)
    if found.ndim != 2 or reference.ndim != 2 or len(found) != len(reference):
        raise DataError(f"speaker activity of shapes {found.shape} and {reference.shape}: expected equally many frames")
    speakers = max(found.shape[1], reference.shape[1])
    found, reference = (np.pad(a, ((0, 0), (0, speakers - a.shape[1]))) for a in (found, reference))
    kept = ~_near_changes(reference, collar)
    found, reference = found[kept], reference[kept]
    wanted, given = reference.sum(1), found.sum(1)
    both = reference.T.astype(int) @ found.astype(int)  # (reference, found) frames in which both speak
    agreed = max(sum(both[i, j] for i, j in enumerate(order)) for order in permutations(range(speakers)))
    return DiarizationErrors(
        int(wanted.sum()),
        int(np.maximum(wanted - given, 0).sum()),
        int(np.maximum(given - wanted, 0).sum()),
        int(np.minimum(wanted, given).sum() - agreed),
    )


def _near_changes(reference: np.ndarray, collar: int) -> np.ndarray:
    """bool (frames,): within ``collar`` frames of a speaker's beginning or end."""
    import numpy as np

    near = np.zeros(len(reference), dtype=bool)
    if collar > 0:
        changes = np.flatnonzero((reference[1:] != reference[:-1]).any(1)) + 1
        for change in changes:
            near[max(0, change - collar) : change + collar] = True
    return near
