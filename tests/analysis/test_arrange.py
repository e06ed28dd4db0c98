"""Trees and maps of points whose places are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from s3router.analysis.arrange import classical_mds, cluster


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_a_plane_comes_back():
    points = np.random.default_rng(0).random((9, 2))
    found, share = classical_mds(distances(points))
    assert distances(found) == pytest.approx(distances(points))
    assert share == pytest.approx(1)


def test_the_share_of_what_a_map_cannot_show():
    found, share = classical_mds(1.0 - np.eye(4))  # a tetrahedron: three dimensions alike
    assert share == pytest.approx(2 / 3)
    assert found.shape == (4, 2)
    assert math.isnan(classical_mds(np.zeros((3, 3)))[1])
    assert classical_mds(np.array([[0.0, 2.0], [2.0, 0.0]]))[0][:, 0].tolist() == pytest.approx([1, -1], abs=1e-9)


def test_average_linkage_by_hand():
    tree = cluster(distances(np.array([[0.0], [10.0], [1.0], [12.0]])))
    merges = [(set(map(int, row[:2])), row[2]) for row in tree.merges]
    assert merges == [({0, 2}, 1.0), ({1, 3}, 2.0), ({4, 5}, 10.5)]
    order = tree.order.tolist()
    assert order in ([0, 2, 1, 3], [3, 1, 2, 0])  # and as near to each other as can be
