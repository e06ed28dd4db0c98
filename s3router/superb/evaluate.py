"""Predictions of a task for a whole data directory, on one process or several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from s3router.data.utt2label import Label
from s3router.scoring.accuracy import Accuracy, score_labels
from s3router.superb.labels import LabelledDir


@dataclass(frozen=True)
class Evaluation:
    """What a task says of a directory.

    Attributes:
        loss: mean of the batches' losses, as s3prl has it.
        predictions: utterance -> label, in the directory's order.
        references: what is right, in the same order.
    """

    loss: float
    predictions: dict[str, Label]
    references: dict[str, Label]

    @property
    def score(self) -> Accuracy:
        """Accuracies, of classifications."""
        return score_labels(list(self.predictions.values()), list(self.references.values()))


@torch.no_grad()
def evaluate(task: nn.Module, loader: DataLoader, labelled: LabelledDir, device: str) -> Evaluation:
    """Run s3prl's task over all batches; of several processes each calls it with its share, and gets the whole."""
    was_training = task.training
    task.eval()
    found: dict[str, Label] = {}
    losses: list[float] = []
    for batch in loader:
        loss, results = task("valid", **to_device(batch, device))
        losses.append(float(loss))
        for utt, value in zip(results["unique_name"], results["prediction"], strict=True):
            found[str(utt)] = (value,) if isinstance(value, str) else tuple(value)
    task.train(was_training)
    if torch.distributed.is_initialized():
        parts: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, (losses, found))
        losses = [loss for part, _ in parts for loss in part]
        found = {utt: value for _, part in parts for utt, value in part.items()}
    predictions = {utt: found[utt] for utt in labelled.labels}
    return Evaluation(sum(losses) / len(losses), predictions, labelled.labels)


def to_device(batch: dict, device: str) -> dict:
    """The batch with its tensors on ``device``."""
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
