"""Purity of clusters: how well k-means on features finds what frames are labelled with.

The measure is phone purity as in the HuBERT paper (arXiv 2106.07447): the share of frames that the commonest label of
their cluster accounts for.
"""

from __future__ import annotations

import numpy as np


def purity(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of frames that carry the commonest label of their cluster; both are int (frames,)."""
    table = np.zeros((clusters.max() + 1, labels.max() + 1))
    np.add.at(table, (clusters, labels), 1)
    return float(table.max(1).sum() / table.sum())


def one_cluster(labels: np.ndarray) -> float:
    """The purity of a single cluster, from which it rises: the share of the commonest label; int (frames,)."""
    return float(np.bincount(labels).max() / len(labels))


def held_out_purity(
    fitted: np.ndarray, held_out: np.ndarray, labels: np.ndarray, clusters: int = 100, seed: int = 0
) -> float:
    """Purity on frames that the clusters were not fitted on; each channel is standardised by the frames of the fit.

    Args:
        fitted: (frames, channels) that k-means is fitted on.
        held_out: (frames, channels) that it is measured on.
        labels: int (frames,) of these.
        seed: of k-means' starts.
    """
    from sklearn.cluster import MiniBatchKMeans

    fitted, held_out = fitted.astype(np.float32), held_out.astype(np.float32)
    mean, deviation = fitted.mean(0), fitted.std(0) + 1e-5
    means = MiniBatchKMeans(clusters, batch_size=10_000, n_init=3, random_state=seed)
    means.fit((fitted - mean) / deviation)
    return purity(means.predict((held_out - mean) / deviation), labels)
