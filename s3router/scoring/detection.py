"""Equal error rate of detection trials (speaker verification)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s3router.errors import DataError


@dataclass(frozen=True)
class EqualErrorRate:
    """The error rate at which misses and false alarms are equally frequent, and the threshold where that is."""

    eer: float
    threshold: float
    targets: int
    nontargets: int


def equal_error_rate(targets: Sequence[int], scores: Sequence[float]) -> EqualErrorRate:
    """Where the receiver operating characteristic, with straight lines between its points, meets misses = false alarms.

    That is what SUPERB's reference computes (a root of the interpolated curve); here it is found exactly.

    Args:
        targets: 1 or True for trials of the same speaker, else 0.
        scores: higher means more likely a target. Equal scores are accepted together.

    Raises:
        DataError: trials of one kind only, sequences of different lengths, or scores that are NaN or infinite.
    """
    import numpy as np

    truth, values = np.asarray(targets, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise DataError(f"{truth.size} trials and {values.size} scores: need one score for each trial")
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        raise DataError(f"{positive} target and {negative} non-target trials: an equal error rate needs both kinds")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} scores are NaN or infinite; score these trials again")
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # the last trial of each distinct score
    miss = np.append(1.0, 1 - np.cumsum(truth)[last] / positive)  # nothing accepted at first
    alarm = np.append(0.0, np.cumsum(~truth)[last] / negative)
    thresholds = np.append(values[0], values[last])
    after = int(np.argmax(alarm >= miss))  # it holds at the end, where all is accepted
    before = after - 1
    gap = (miss[before] - alarm[before], miss[after] - alarm[after])
    share = gap[0] / (gap[0] - gap[1])
    eer = alarm[before] + share * (alarm[after] - alarm[before])
    threshold = thresholds[before] + share * (thresholds[after] - thresholds[before])
    return EqualErrorRate(float(eer), float(threshold), positive, negative)
