"""s3prl's Tasks of verification and diarisation, which in validation give the predictions that we score and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from s3router.upstreams.s3prl_engine import load, problem

_VERIFICATION = load("s3prl.task.speaker_verification_task")
_DIARIZATION = load("s3prl.task.diarization")


class VerificationTask(_VERIFICATION.SpeakerVerification):
    """s3prl's task; validation gives embeddings, as its test does."""

    def valid_step(self, x: torch.Tensor, x_len: torch.Tensor, unique_name: Sequence[str]) -> tuple[float, dict]:
        """No loss, and as predictions the embeddings: a list of numbers for each utterance."""
        _, found = self.test_step(x, x_len, unique_name, None)
        embeddings = [embedding.float().tolist() for embedding in found["spk_embedding"]]
        return 0.0, {"unique_name": found["unique_name"], "prediction": embeddings}


def verification_task(name: str, model: torch.nn.Module, encoder: Any) -> VerificationTask:
    """The task with the benchmark's loss, whose weights (one vector per speaker) train and are saved with the head."""
    task = VerificationTask(model, encoder, None, **problem(name).default_config()["build_task"])
    model.objective = task.loss
    return task


class DiarizationTask(_DIARIZATION.DiarizationPIT):
    """s3prl's task, loss and all; validation gives the probabilities, too."""

    def __init__(self, model: torch.nn.Module):
        super().__init__(model)
        self.stride, self._logits = int(model.featurizer.downsample_rate), None

    def predict(self, x: torch.Tensor, x_len: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, speakers) and valid frames (B,); the logits are remembered."""
        self._logits, lengths = super().predict(x, x_len)
        return self._logits, lengths

    def forward(self, _mode: str, unique_name: Sequence[str], **batch: Any) -> tuple[torch.Tensor, dict]:
        """s3prl's; a prediction is (samples per frame, float32 (frames, speakers))."""
        loss, found = super().forward(_mode, **batch)
        if _mode == "train":
            return loss, found
        logits, _ = self._match_length(self._logits, batch["label"])
        activity = torch.sigmoid(logits.float()).cpu().numpy()
        predictions = [(self.stride, a[: int(n)]) for a, n in zip(activity, batch["label_len"], strict=True)]
        return loss, {**found, "unique_name": list(unique_name), "prediction": predictions}
