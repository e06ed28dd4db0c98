"""Selection of the run with the best validation result, of several with different learning rates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from s3router.errors import CheckpointError
from s3router.files import link
from s3router.superb.experiment import TaskExperiment


def select(folders: Sequence[Path]) -> tuple[TaskExperiment, list[TaskExperiment]]:
    """(the best run, all of them); of equal ones, the one with the lowest validation loss. No test set is looked at.

    Raises:
        CheckpointError: a run that is missing, damaged, or not trained to its end.
    """
    runs = [TaskExperiment(folder) for folder in folders]
    for run in runs:
        if not run.ended:
            raise CheckpointError(
                f"{run.path}: training stands at update {run.updates} of {run.options['max_updates']}; "
                "run it to its end first (stage 3)"
            )
    return max(runs, key=lambda run: (run.kind.quality(run.validated), -run.validated["loss"])), runs


def link_best(folders: Sequence[Path], output: Path) -> list[str]:
    """Make ``output`` a link to the best of the folders beside it; returns one line per run, for the screen."""
    best, runs = select(folders)
    lines = []
    for run in runs:
        upstream_lr = run.options["upstream_lr"]
        rates = f"lr {run.options['lr']:g}" + ("" if upstream_lr is None else f", upstream {upstream_lr:g}")
        value = f"{run.kind.metric} {100 * run.validated[run.kind.metric]:.2f} % at {run.validated['update']}"
        lines.append(f"{run.path.name}: {rates}: {value}" + ("  <- selected" if run is best else ""))
    link(output, os.path.relpath(best.path, output.parent))
    return lines
