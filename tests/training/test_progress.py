"""Progress lines, and the warning of a collapse onto blanks."""

from __future__ import annotations

import logging

import pytest

from s3router.scoring.error_counts import ErrorCounts
from s3router.training.progress import Progress, announce, clock


def test_clock():
    assert [clock(s) for s in (4.6, 75.2, 3700, 360000)] == ["0:05", "1:15", "1:01:40", "100:00:00"]


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_progress_counts_steps(caplog):
    time = Time()
    progress = Progress(max_updates=10, interval=3, done=5, now=time)
    with caplog.at_level(logging.INFO, "s3router"):
        for _ in range(5):
            time.seconds += 3
            progress.step(lambda steps: float(steps))
    assert progress.update == 10
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "update 6/10  loss 1  0.33 updates/s  0:12 left",
        "update 9/10  loss 3  0.33 updates/s  0:03 left",
        "update 10/10  loss 1  0.33 updates/s  0:00 left",
    ]


@pytest.mark.parametrize(("empty", "update", "warned"), [(3, 40, True), (3, 20, False), (2, 40, False)])
def test_blank_collapse_is_reported_once_training_is_well_under_way(caplog, empty, update, warned):
    progress = Progress(max_updates=100, done=update)
    with caplog.at_level(logging.INFO, "s3router"):
        announce(progress, 1.0, ErrorCounts(9, 9, 3, 3, utts=3, empty=empty))
    assert ("nothing but blanks" in caplog.text) == warned
    assert progress.best == (1.0, update)
