"""Subsequence dynamic time warping of one query against many documents, as SUPERB's query by example has it.

The distance of two frames is exp(1 − cosine) − 1, brought to [0, 1] along each query frame. The query is warped, whole,
onto the stretch of a document that fits best: each query frame takes the document's frame of the one before it, the
next one, or the one after that (Tormene et al. 2009: "asymmetric" steps, open begin, open end).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SEPARATION = 2  # columns between documents in the cost matrix: as far as a step reaches
_CELLS = 20_000_000  # of a cost matrix in memory


def subsequence_costs(query: np.ndarray, documents: Sequence[np.ndarray]) -> np.ndarray:
    """The cost per query frame of the best stretch of each document: float64 (documents,); lower is more alike.

    Args:
        query: float (frames, width), at least one frame.
        documents: float (frames, width) each, at least one frame.
    """
    query = _unit(query)
    found, first = [], 0
    limit = max(_CELLS // len(query), 1)
    while first < len(documents):
        last, frames = first + 1, len(documents[first])
        while last < len(documents) and frames + len(documents[last]) <= limit:
            frames += len(documents[last])
            last += 1
        found.append(_costs(query, documents[first:last]))
        first = last
    return np.concatenate(found) if found else np.zeros(0)


def _costs(query: np.ndarray, documents: Sequence[np.ndarray]) -> np.ndarray:
    """All documents side by side in one matrix, with columns of infinite cost between them."""
    lengths = np.array([len(document) for document in documents])
    starts = np.cumsum(lengths) - lengths
    distance = np.exp(1 - query @ _unit(np.concatenate(documents)).T) - 1
    low = np.repeat(np.minimum.reduceat(distance, starts, axis=1), lengths, axis=1)
    high = np.repeat(np.maximum.reduceat(distance, starts, axis=1), lengths, axis=1)
    distance = (distance - low) / np.maximum(high - low, 1e-9)

    which = np.repeat(np.arange(len(documents)), lengths)
    columns = np.arange(len(which)) + _SEPARATION * (which + 1)
    cost = np.full(len(which) + _SEPARATION * len(documents), np.inf)
    cost[columns] = 0
    for number, row in enumerate(distance):
        reached = cost
        if number:  # the first frame may lie anywhere
            reached = cost.copy()
            np.minimum(reached[1:], cost[:-1], out=reached[1:])
            np.minimum(reached[2:], cost[:-2], out=reached[2:])
        cost = np.full_like(cost, np.inf)
        cost[columns] = reached[columns] + row
    return np.minimum.reduceat(cost, starts + _SEPARATION * np.arange(len(documents))) / len(query)


def _unit(frames: np.ndarray) -> np.ndarray:
    """Rows of length one, float64."""
    frames = np.asarray(frames, dtype=np.float64)
    return frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-12)
