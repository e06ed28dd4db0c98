"""Progress lines of training, for a screen and a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from s3router.scoring.error_counts import ErrorCounts

logger = logging.getLogger(__name__)

COLLAPSE_AFTER = 1 / 3
"""Share of the updates after which saying nothing at all is no longer the normal start of CTC training."""


def clock(seconds: float) -> str:
    """``75.2`` -> ``1:15``, ``3700`` -> ``1:01:40``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts the optimizer steps of a run, and logs a line every ``interval`` of them.

    Args:
        max_updates: optimizer steps of the run.
        interval: steps between lines.
        done: steps that an earlier, interrupted run did.
    """

    def __init__(self, max_updates: int, interval: int = 25, done: int = 0, now: Callable[[], float] = time.monotonic):
        self.max_updates, self.interval, self.now = max_updates, interval, now
        self.first = self.update = self.said = done
        self.started = now()
        self.best: tuple[float, int] | None = None
        self.rate = "CER"
        """Name of the error rate that selects the best model; "PER" where the tokens are phones."""

    @property
    def seconds_left(self) -> float:
        """From the pace of this run so far, validation included."""
        return (self.now() - self.started) / max(1, self.update - self.first) * (self.max_updates - self.update)

    def step(self, loss: Callable[[int], float]) -> None:
        """Count one step. ``loss`` gives the mean training loss of the last n steps where there is a line to write."""
        self.update += 1
        if self.update % self.interval == 0 or self.update == self.max_updates:
            logger.info(self.line(loss(self.update - self.said)))
            self.said = self.update

    def line(self, loss: float) -> str:
        """One progress line."""
        rate = (self.update - self.first) / max(1e-9, self.now() - self.started)
        return (
            f"update {self.update}/{self.max_updates}  loss {loss:.3g}  "
            f"{rate:.2f} updates/s  {clock(self.seconds_left)} left"
        )


def announce(progress: Progress, loss: float, errors: ErrorCounts) -> None:
    """Log the result of a validation, and warn of a collapse onto blanks."""
    better = progress.best is None or errors.cer < progress.best[0]
    if better:
        progress.best = (errors.cer, progress.update)
    note = "best so far" if better else f"best {100 * progress.best[0]:.2f} % at update {progress.best[1]}"
    words = f"  WER {100 * errors.wer:.2f} %" if progress.rate == "CER" else ""
    logger.info(
        "update %d validated: loss %.3g  %s %.2f %%%s  (%s)",
        *(progress.update, loss, progress.rate, 100 * errors.cer, words, note),
    )
    if errors.all_empty() and progress.update >= COLLAPSE_AFTER * progress.max_updates:
        logger.warning(
            "at update %d the model still gives nothing but blanks for every validation utterance; "
            "raise the learning rates or --max_updates, or give it more data",
            progress.update,
        )
