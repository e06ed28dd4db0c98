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


@dataclass(frozen=True)
class WholeSearch:
    """A search of which the scored one is a part; files and queries that were left out count as not found.

    Attributes:
        files: number of files in it.
        queries: number of queries with a hit in any of them.
        hits: query -> number of files that hold it; at least those of the scored part.
    """

    files: int
    queries: int
    hits: Mapping[str, int]


def maximum_term_weighted_value(
    scores: Mapping[Hashable, Mapping[Hashable, float]],
    hits: Mapping[Hashable, set],
    beta: float = COST_ALARM / COST_MISS * (1 / P_TARGET - 1),
    whole: WholeSearch | None = None,
) -> TermWeightedValue:
    """TWV(θ) = 1 − mean over queries of (P_miss(θ) + beta · P_fa(θ)), at its best θ; at least 0 (no hits at all).

    With ``whole`` that is what QUESST 2014's scorer gives for a submission of one language: a query that was left out
    is missed and has no false alarms, so that it adds 0 to the sum; P_miss and P_fa are shares of all files.

    Args:
        scores: query -> (file -> score), every file of the search set for every query.
        hits: query -> files of the search set that hold it. Queries without a hit (in ``whole``, where given) have no
            miss rate, and are left out.
        beta: weight of false alarms.
        whole: the search of which this is a part; None: this is all.

    Raises:
        DataError: a query with hits has no scores, scores lack a file, or there is no query with hits.
    """
    import numpy as np

    counts = {query: len(found) for query, found in hits.items()} if whole is None else whole.hits
    queries = [query for query in scores if counts.get(query)]
    if lost := [query for query in hits if hits[query] and query not in scores]:
        raise DataError(f"no scores for {len(lost)} queries that have hits, first {lost[0]!r}")
    if not queries:
        raise DataError("no query has a hit: a term-weighted value is not defined")
    values, gains = [], []
    for query in queries:
        files, wanted = scores[query], hits.get(query, set())
        if lacking := sorted(map(str, set(wanted) - files.keys())):
            raise DataError(f"query {query!r} has no score for {lacking[0]}, which holds it")
        others = (len(files) if whole is None else whole.files) - counts[query]
        for file, score in files.items():
            values.append(score)
            gains.append(1 / counts[query] if file in wanted else -beta / others)
    order = np.argsort(-np.asarray(values), kind="stable")
    sorted_values = np.asarray(values)[order]
    if not np.isfinite(sorted_values).all():
        raise DataError("some scores are NaN or infinite; search again")
    last = np.append(np.flatnonzero(np.diff(sorted_values)), len(values) - 1)
    reached = np.cumsum(np.asarray(gains)[order])[last] / (len(queries) if whole is None else whole.queries)
    best = int(np.argmax(reached))
    if reached[best] <= 0:
        return TermWeightedValue(0.0, float("inf"), len(queries))
    return TermWeightedValue(float(reached[best]), float(sorted_values[last[best]]), len(queries))
