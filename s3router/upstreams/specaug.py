"""Time and channel masking of the features that enter the transformer encoder, as wav2vec 2.0 is finetuned.

Baevski et al. 2020 (arXiv 2006.11477), appendix B, after SpecAugment (arXiv 1904.08779). Masked frames become the mask
embedding that the model was pretrained with, or zeros where it has none; masked channels become zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.upstreams.anatomy import Anatomy
from s3router.upstreams.padding import RunningBatch


@dataclass(frozen=True)
class SpecAugConfig:
    """How much is masked. The defaults are S3-Router's for 10 minutes and 1 hour of LibriSpeech.

    Args:
        time_prob: spans × length over frames. Spans may overlap, so the share of masked frames is smaller:
            about 1 - exp(-time_prob).
        time_length: frames of one span.
        channel_prob, channel_length: the same over the channels, drawn once per utterance.
    """

    time_prob: float = 0.65
    time_length: int = 10
    channel_prob: float = 0.25
    channel_length: int = 64

    def __post_init__(self) -> None:
        problems = []
        for name in ("time_prob", "channel_prob"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                problems.append(f"{name} must be a number from 0 to 1, found {value!r}")
        for name in ("time_length", "channel_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append(f"{name} must be a whole number of at least 1, found {value!r}")
        if problems:
            raise ConfigError("specaug: " + "; ".join(problems) + ".")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SpecAugConfig:
        """Raises ConfigError on unknown keys (the message lists the known ones) and on bad values."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"specaug: unknown {', '.join(unknown)}. Known: {', '.join(known)}.")
        return cls(**values)


def span_mask(size: int, prob: float, length: int) -> Tensor:
    """Draw spans over ``size`` positions: bool (size,), True = masked.

    ``prob * size / length`` spans (rounded up or down at random, so that the mean is right) start at different places
    drawn evenly; they may overlap. Where there is little room a span shrinks to half of it, and one position gets none.
    """
    length = min(length, size // 2)
    mask = torch.zeros(size, dtype=torch.bool)
    if length < 1:
        return mask
    starts = size - length + 1
    spans = min(int(prob * size / length + torch.rand(()).item()), starts)
    first = torch.randperm(starts)[:spans]
    mask[(first[:, None] + torch.arange(length)).flatten()] = True
    return mask


class SpecAug(nn.Module):
    """Masks the output of a backbone's feature projection, in training mode, through a forward hook on it.

    Random numbers come from torch's CPU generator, so a seed or a restored generator state repeats them on any device.

    Args:
        config: how much to mask.
        backbone: the model whose features are masked.
        anatomy: where its parts are.
        batch: valid frames of the utterances that are going through it.

    Raises:
        ConfigError: the model has no place where features enter the transformer.
    """

    def __init__(self, config: SpecAugConfig, backbone: nn.Module, anatomy: Anatomy, batch: RunningBatch):
        super().__init__()
        if anatomy.encoder_input is None:
            raise ConfigError(
                f"specaug: {type(backbone).__name__} has no feature projection that could be masked. Leave specaug out."
            )
        self.config = config
        self._batch = batch
        self._embedding: tuple[nn.Module, str] | None = None  # in a tuple: not registered here a second time
        if anatomy.mask_embedding is not None:
            owner, _, name = anatomy.mask_embedding.rpartition(".")
            self._embedding = backbone.get_submodule(owner), name
        backbone.get_submodule(anatomy.encoder_input).register_forward_hook(self._hook)

    def _hook(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not self.training:
            return None
        if isinstance(output, tuple):
            return (self(output[0]), *output[1:])
        return self(output)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C) with spans masked; frames past an utterance's end stay as they are."""
        batch, total, channels = features.shape
        frames = self._batch.frames
        if frames is None or len(frames) != batch:
            frames = [total] * batch
        time = torch.zeros(batch, total, dtype=torch.bool)
        for row, valid in zip(time, frames, strict=True):
            valid = min(valid, total)
            row[:valid] = span_mask(valid, self.config.time_prob, self.config.time_length)
        channel = torch.stack(
            [span_mask(channels, self.config.channel_prob, self.config.channel_length) for _ in range(batch)]
        )
        features = torch.where(time.to(features.device)[:, :, None], self._filling(features), features)
        return features.masked_fill(channel.to(features.device)[:, None, :], 0)

    def _filling(self, features: Tensor) -> Tensor:
        if self._embedding is None:
            return features.new_zeros(features.size(-1))
        owner, name = self._embedding
        return getattr(owner, name).to(features.dtype)
