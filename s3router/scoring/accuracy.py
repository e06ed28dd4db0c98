"""Accuracy of classifications: plain, by class, and over cross-validation folds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from s3router.errors import DataError
from s3router.scoring.stats import MeanSpread, mean_spread

FOLDS = 5
"""Folds of SUPERB's emotion recognition: one per session of IEMOCAP."""


@dataclass(frozen=True)
class Accuracy:
    """Counts of one classification.

    Attributes:
        correct, total: utterances.
        recalls: class -> share of its utterances that were recognised, for the classes that occur.
    """

    correct: int
    total: int
    recalls: dict[Hashable, float]

    @property
    def accuracy(self) -> float:
        """Share of utterances that are right."""
        return self.correct / self.total

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' recalls."""
        return fmean(self.recalls.values())

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """Wilson's score interval of the accuracy (95 % by default), which holds for small sets and near 100 %, too."""
        n, p = self.total, self.accuracy
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


def score_labels(predicted: Sequence[Hashable], true: Sequence[Hashable]) -> Accuracy:
    """Compare predictions with labels, position by position. Labels of several slots are tuples: all must be right.

    Raises:
        DataError: nothing to score, or sequences of different lengths.
    """
    if not true or len(predicted) != len(true):
        raise DataError(f"{len(predicted)} predictions for {len(true)} labels: need one for each, and at least one")
    hits: dict[Hashable, list[bool]] = {}
    for guess, label in zip(predicted, true, strict=True):
        hits.setdefault(label, []).append(guess == label)
    correct = sum(sum(values) for values in hits.values())
    return Accuracy(correct, len(true), {label: fmean(values) for label, values in hits.items()})


def fold_mean(accuracies: Sequence[float], folds: int = FOLDS) -> MeanSpread:
    """Mean over cross-validation folds, each with the same weight (SUPERB's figure for ER).

    Raises:
        DataError: folds are missing.
    """
    if len(accuracies) != folds:
        raise DataError(f"{len(accuracies)} folds, expected {folds}: the benchmark's figure is the mean of all")
    return mean_spread(accuracies)
