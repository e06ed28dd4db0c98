"""Loud frames, and quiet stretches between them."""

from __future__ import annotations

import numpy as np
import pytest

from s3router.data.loudness import FRAME, loud_frames, quiet_stretches


def test_stretches_that_are_quiet_for_long_enough():
    noise = np.random.default_rng(0).normal(0, 0.1, 100 * FRAME)
    for start, stop in ((0, 10), (40, 60), (70, 75), (90, 100)):
        noise[start * FRAME : stop * FRAME] *= 1e-4
    noise[50 * FRAME : 51 * FRAME] = 0.1  # a click
    loud = loud_frames(noise)
    assert quiet_stretches(loud, 0.1) == [(0, 10), (40, 60), (90, 100)]
    assert quiet_stretches(loud, 0.05) == [(0, 10), (40, 60), (70, 75), (90, 100)]
    assert quiet_stretches(loud, 1.0) == []


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros(FRAME - 1), np.zeros(9 * FRAME), np.ones(9 * FRAME)])
def test_without_contrast_nothing_is_quiet(wave):
    assert quiet_stretches(loud_frames(wave), 0.01) == []
