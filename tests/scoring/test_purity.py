"""Purity of clusters, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from s3router.scoring.purity import held_out_purity, one_cluster, purity


def test_the_commonest_label_of_each_cluster_counts():
    clusters, labels = np.array([0, 0, 1, 1, 1, 3]), np.array([3, 3, 5, 5, 3, 0])
    assert purity(clusters, labels) == pytest.approx((2 + 2 + 1) / 6)
    assert one_cluster(labels) == purity(np.zeros(6, int), labels) == pytest.approx(3 / 6)


def test_clusters_are_fitted_on_some_frames_and_measured_on_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    centres = np.array([[0, 0], [1e-3, 0], [0, 2e-3]])  # tiny beside the third channel, so that scaling matters

    def frames(labels: np.ndarray) -> np.ndarray:
        return np.column_stack([centres[labels] + rng.normal(0, 1e-5, (len(labels), 2)), np.full(len(labels), 7.0)])

    fitted, held_out = frames(rng.integers(0, 3, 600)), frames(labels)
    assert held_out_purity(fitted, held_out, labels, 3) == 1
    assert held_out_purity(fitted, held_out, labels, 1) == one_cluster(labels)
    shuffled = rng.permutation(labels)
    assert held_out_purity(fitted, held_out, shuffled, 3) < 0.5
