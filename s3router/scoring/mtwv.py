"""Maximum term-weighted value of query-by-example search (QUESST 2014, one decision per query and file)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from s3router.errors import DataError

P_TARGET, COST_MISS, COST_ALARM = 0.0008, 100.0, 1.0
"""Of QUESST 2014's evaluation plan; beta = C_fa / C_miss · (1 / P_target − 1) = 12.49."""


@dataclass(frozen=True)
class TermWeightedValue:
    """The highest value over all thresholds, and the (lowest) threshold that reaches it: scores from it on are hits."""

    mtwv: float
    threshold: float
    queries: int


def maximum_term_weighted_value(
    scores: Mapping[Hashable, Mapping[Hashable, float]],
    hits: Mapping[Hashable, set],
    beta: float = COST_ALARM / COST_MISS * (1 / P_TARGET - 1),
) -> TermWeightedValue:
    """TWV(θ) = 1 − mean over queries of (P_miss(θ) + beta · P_fa(θ)), at its best θ; at least 0 (no hits at all).

    Args:
        scores: query -> (file -> score), every file of the search set for every query.
        hits: query -> files that hold it. Queries without a hit have no miss rate, and are left out.
        beta: weight of false alarms.

    Raises:
        DataError: a query with hits has no scores, scores lack a file, or there is no query with hits.
    """
    import numpy as np

    queries = [query for query in scores if hits.get(query)]
    if lost := [query for query in hits if hits[query] and query not in scores]:
        raise DataError(f"no scores for {len(lost)} queries that have hits, first {lost[0]!r}")
    if not queries:
        raise DataError("no query has a hit: a term-weighted value is not defined")
    values, gains = [], []
    for query in queries:
        files, wanted = scores[query], hits[query]
        if lacking := sorted(map(str, set(wanted) - files.keys())):
            raise DataError(f"query {query!r} has no score for {lacking[0]}, which holds it")
        others = len(files) - len(wanted)
        for file, score in files.items():
            values.append(score)
            gains.append(1 / len(wanted) if file in wanted else -beta / others)
    order = np.argsort(-np.asarray(values), kind="stable")
    sorted_values = np.asarray(values)[order]
    if not np.isfinite(sorted_values).all():
        raise DataError("some scores are NaN or infinite; search again")
    last = np.append(np.flatnonzero(np.diff(sorted_values)), len(values) - 1)
    reached = np.cumsum(np.asarray(gains)[order])[last] / len(queries)
    best = int(np.argmax(reached))
    if reached[best] <= 0:
        return TermWeightedValue(0.0, float("inf"), len(queries))
    return TermWeightedValue(float(reached[best]), float(sorted_values[last[best]]), len(queries))
