"""Uncertainty of a figure: spread over seeds, and bootstrap intervals over the utterances of a small test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from s3router.errors import ConfigError, DataError
from s3router.scoring.wer import Score

if TYPE_CHECKING:
    import numpy as np

_DRAWS = 1 << 22  # by the bootstrap at a time: all of them, for 20,000 utterances, would take gigabytes


@dataclass(frozen=True)
class MeanSpread:
    """Mean and sample standard deviation (n − 1) of `n` runs; no spread is known of one run."""

    mean: float
    std: float | None
    n: int

    def percent(self, digits: int = 1) -> str:
        """Like ``12.3 ± 0.4``, in percent."""
        spread = "" if self.std is None else f" ± {100 * self.std:.{digits}f}"
        return f"{100 * self.mean:.{digits}f}{spread}"


def mean_spread(values: Sequence[float]) -> MeanSpread:
    """Mean and spread of the same figure under several seeds."""
    if not values:
        raise DataError("mean of no runs: give at least one value")
    return MeanSpread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Difference:
    """Difference `a − b` of two error rates, its confidence interval, and the share of resamples in which a < b."""

    difference: float
    low: float
    high: float
    level: float
    a_better: float

    def __str__(self) -> str:
        return (
            f"{100 * self.difference:+.2f} points, {100 * self.level:.0f} % interval {100 * self.low:+.2f} to "
            f"{100 * self.high:+.2f}, better in {100 * self.a_better:.1f} % of the resamples"
        )


def bootstrap_difference(
    a: Sequence[Score],
    b: Sequence[Score],
    metric: str = "wer",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Paired bootstrap of a difference of error rates (Bisani and Ney, ICASSP 2004).

    The utterances of the test set are redrawn with replacement, the same draw for both systems, and the pooled rates
    compared. A system run with several seeds is given as several scores of the same utterances; its rate is their mean,
    so that the interval speaks of the method on other sentences, not of one lucky run (but not of other seeds).

    Args:
        a, b: scores of the two systems, one per seed, all of the same utterances.
        metric: "wer" or "cer".

    Raises:
        ConfigError: unknown metric.
        DataError: the scores are not of the same utterances.
    """
    rows = {"wer": "words", "cer": "chars"}
    if metric not in rows:
        raise ConfigError(f"unknown metric {metric!r}; known: {', '.join(rows)}")
    counts = [[{u.utt: getattr(u, rows[metric]) for u in run.utterances} for run in system] for system in (a, b)]
    runs = [run for system in counts for run in system]
    if not counts[0] or not counts[1] or any(run.keys() != runs[0].keys() for run in runs):
        raise DataError("only systems scored on the same utterances can be compared; decode both on the same test set")
    utts = list(runs[0])
    errors = [[fmean(run[utt].errors for run in system) for utt in utts] for system in counts]
    totals = [runs[0][utt].total for utt in utts]
    return bootstrap_counts(errors[0], errors[1], totals, resamples=resamples, level=level, seed=seed)


def bootstrap_counts(
    errors_a: Sequence[float],
    errors_b: Sequence[float],
    totals: Sequence[float],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The same from counts per utterance: errors of either system, and reference tokens; equally long sequences."""
    return bootstrap_means([(errors_a, errors_b, totals)], resamples=resamples, level=level, seed=seed)


def bootstrap_means(
    sets: Sequence[tuple[Sequence[float], Sequence[float], Sequence[float]]],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The same for means over several test sets, such as those of languages: every set is redrawn by itself.

    Args:
        sets: of each, errors of either system and reference tokens per utterance, as of `bootstrap_counts`. Each counts
            as much as another, whatever its size.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    observed, means = 0.0, np.zeros(resamples)
    for errors_a, errors_b, totals in sets:
        delta = np.asarray(errors_a, dtype=np.float64) - np.asarray(errors_b, dtype=np.float64)
        total = np.asarray(totals, dtype=np.float64)
        if delta.shape != total.shape or not total.sum() > 0:
            raise DataError(
                f"{delta.size} errors and {total.size} totals: need one of each per utterance, and some words"
            )
        observed += float(delta.sum() / total.sum()) / len(sets)
        means += _resampled(delta, total, resamples, generator) / len(sets)
    means = means[~np.isnan(means)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    better = float((means < 0).mean() + (means == 0).mean() / 2)
    return Difference(observed, float(low), float(high), level, better)


def _resampled(delta: np.ndarray, total: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """float64 (resamples,): the pooled rate of each; not a number where only utterances without words were drawn."""
    import numpy as np

    n = len(total)
    block = max(1, _DRAWS // n)
    sums = np.empty((2, resamples))  # of delta and total
    for start in range(0, resamples, block):
        part = sums[:, start : start + block]
        draws = generator.multinomial(n, np.full(n, 1 / n), size=part.shape[1]).astype(np.float64)
        part[0], part[1] = draws @ delta, draws @ total  # (resamples, utterances) @ (utterances,)
    return sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
