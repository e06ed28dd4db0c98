"""Labels of frames, against every path that CTC knows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from s3router.asr.frame_labels import frame_labels


def collapse(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token]


@pytest.mark.parametrize("ids", [[1], [1, 2], [2, 2], [1, 2, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_nearest_spike_of_the_best_path(ids, seed):
    log_probs = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    paths = [path for path in itertools.product(range(3), repeat=6) if collapse(path) == ids]
    best = max(paths, key=lambda path: sum(float(log_probs[frame, token]) for frame, token in enumerate(path)))
    spikes = [frame for frame, token in enumerate(best) if token]
    wanted = [best[min(spikes, key=lambda spike: (abs(spike - frame), spike))] for frame in range(6)]
    assert frame_labels(log_probs, ids).tolist() == wanted


def test_a_frame_between_two_goes_to_the_earlier():
    log_probs = torch.full((7, 3), -5.0)
    log_probs[:, 0] = -0.1
    for frame, token in ((1, 2), (5, 1)):
        log_probs[frame] = -5.0
        log_probs[frame, token] = -0.1
    assert np.array_equal(frame_labels(log_probs, [2, 1]), [2, 2, 2, 2, 1, 1, 1])


def test_nothing_is_said_of_an_empty_text():
    assert frame_labels(torch.zeros(4, 3), []) is None
