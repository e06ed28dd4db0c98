"""Opening of experiment folders of any kind."""

from __future__ import annotations

import os
from pathlib import Path

from s3router.asr.experiment import ASRExperiment
from s3router.errors import CheckpointError
from s3router.seq2seq.experiment import Seq2SeqExperiment
from s3router.superb.experiment import TaskExperiment
from s3router.training.experiment import Experiment

KINDS: tuple[type[Experiment], ...] = (ASRExperiment, Seq2SeqExperiment, TaskExperiment)


def open_experiment(path: str | os.PathLike) -> Experiment:
    """The experiment in a folder that ``s3router train``, ``seq2seq-train`` or ``superb-train`` has written.

    Raises:
        CheckpointError: there is none in it, or its configuration is damaged.
    """
    path = Path(path)
    for kind in KINDS:
        if kind.is_in(path):
            return kind(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; name one that training has written")
    raise CheckpointError(
        f"{path}: no experiment in it ({' or '.join(kind.CONFIG for kind in KINDS)}); name a folder that training wrote"
    )
