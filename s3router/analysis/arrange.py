"""Order, tree and map of items whose similarities are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tree:
    """A hierarchical clustering.

    Attributes:
        order: int64 (items,), so that neighbours are alike.
        merges: (left, right, height, members) of each step, as scipy has them: items first, then earlier merges.
    """

    order: np.ndarray
    merges: np.ndarray


def cluster(distances: np.ndarray) -> Tree:
    """Average linkage (UPGMA) of distances (items, items), symmetric, at least two items."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    condensed = squareform(np.where(np.eye(len(distances), dtype=bool), 0, distances), checks=False)
    merges = linkage(condensed, "average")
    if len(distances) <= 100:  # of the third power
        merges = optimal_leaf_ordering(merges, condensed)
    return Tree(leaves_list(merges).astype(np.int64), merges)


def classical_mds(distances: np.ndarray, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """A map whose distances come near these: classical scaling (Torgerson, Psychometrika 17, 1952).

    Args:
        distances: float64 (items, items), symmetric, zeros on the diagonal.
        dimensions: of the map.

    Returns:
        float64 (items, dimensions), each axis with its largest value positive; and the share of the (positive) variance
        that the map shows, NaN where all distances are 0.
    """
    count = len(distances)
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-centring @ (distances**2) @ centring / 2)
    order = np.argsort(values)[::-1][:dimensions]
    best = np.maximum(values[order], 0)
    points = np.zeros((count, dimensions))
    points[:, : len(order)] = vectors[:, order] * np.sqrt(best)
    largest = points[np.abs(points).argmax(0), np.arange(dimensions)]
    positive = values[values > 0].sum()
    return points * np.where(largest < 0, -1, 1), float(best.sum() / positive) if positive > 1e-12 else np.nan
