"""Predictions of a task for a whole data directory, in one process or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from s3router.superb.batches import to_device
from s3router.superb.kind import Kind
from s3router.superb.labels import LabelledDir


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a task on a directory.

    Attributes:
        loss: mean of the batches' losses, as in s3prl.
        predictions: the predictions of the task's kind, such as `s3router.superb.classification.LabelPredictions`.
        metrics: their metrics, as fractions.
    """

    loss: float
    predictions: Any
    metrics: dict[str, Any]


@torch.no_grad()
def evaluate(kind: Kind, task: nn.Module, loader: DataLoader, labelled: LabelledDir, device: str) -> Evaluation:
    """Run s3prl's Task over all batches.

    Args:
        loader: of this process's share of the directory; with several processes, each gets the whole outcome.
    """
    was_training = task.training
    task.eval()
    losses: list[float] = []
    outputs: dict[str, Any] = {}
    for batch in loader:
        loss, found = task("valid", **to_device(batch, device))
        losses.append(float(loss))
        outputs.update(zip(map(str, found["unique_name"]), found["prediction"], strict=True))
    task.train(was_training)
    if torch.distributed.is_initialized():
        parts: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, (losses, outputs))
        losses = [loss for part, _ in parts for loss in part]
        outputs = {utt: output for _, part in parts for utt, output in part.items()}
    predictions = kind.predictions(outputs, labelled)
    return Evaluation(sum(losses) / len(losses), predictions, kind.metrics(predictions))
