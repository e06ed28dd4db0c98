"""The model that is pretrained, its optimizers, and its export."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import ConfigError
from s3router.files import replacing_folder
from s3router.pretraining.settings import Settings, Training
from s3router.pretraining.speech import frame_counter


def mel_filterbank(filters: int, length: int) -> torch.Tensor:
    """Windowed cosines on mel-spaced frequencies, four phases each: (filters, 1, length), unit energy.

    Rectified and summed, four phases a quarter period apart give about the magnitude at that frequency whatever the
    signal's phase, so that the extractor starts as a filterbank instead of having to find one.
    """
    mel = torch.linspace(2595 * math.log10(1 + 60 / 700), 2595 * math.log10(1 + 7600 / 700), filters // 4)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    time_axis = torch.arange(length) / SAMPLE_RATE
    phases = torch.arange(4) * math.pi / 2
    waves = torch.cos(2 * math.pi * hertz[:, None, None] * time_axis + phases[:, None]) * torch.hann_window(length)
    waves = waves.reshape(-1, length)
    return (waves / waves.norm(dim=1, keepdim=True))[:, None]


def configuration(settings: Settings) -> Any:
    """The HubertConfig of a pretraining.

    Raises:
        ConfigError: options that it does not know or that do not go together, frames of another rate than targets are
            made for, or a round that clusters a layer which the model does not have.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import HubertConfig, HubertModel

    if unknown := sorted(settings.model.keys() - HubertConfig().to_dict().keys()):
        raise ConfigError(f"model: HubertConfig has no option {', '.join(unknown)}")
    try:
        config = HubertConfig(**settings.model)
        with torch.device("meta"):
            HubertModel(config)
    except (StrictDataclassError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(f"model: these options make no HubertModel ({' '.join(str(error).split())})") from None
    frame_counter(config.conv_kernel, config.conv_stride)
    deepest = max((spec.layer or 0 for spec in settings.rounds), default=0)
    if deepest > config.num_hidden_layers:
        raise ConfigError(f"layer {deepest} is clustered, but the model has {config.num_hidden_layers} layers")
    return config


class Pretrainer(nn.Module):
    """The upstream and one linear output head for each clustering.

    Args:
        config: a HubertConfig.
        clusters: number of targets of each head.
    """

    def __init__(self, config: Any, clusters: list[int]):
        super().__init__()
        from transformers import HubertModel

        # Plain attention: on processors its backward pass is faster than the fused one at these lengths.
        config._attn_implementation = "eager"
        self.upstream = HubertModel(config)
        with torch.no_grad():
            first = self.upstream.feature_extractor.conv_layers[0].conv
            first.weight.copy_(mel_filterbank(first.out_channels, first.kernel_size[0]))
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, k) for k in clusters)

    def forward(
        self, waves: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, unmasked_weight: float
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss, and loss and accuracy of each head on masked frames.

        Args:
            waves: float32 (batch, samples).
            targets: int64 (batch, frames, heads); -100 counts nowhere: speech of one kind has no targets of the other.
            mask: bool (batch, frames).
            unmasked_weight: of the loss on frames that are not masked.
        """
        hidden = self.upstream(waves, mask_time_indices=mask).last_hidden_state
        loss, report = 0.0, {}
        for i, head in enumerate(self.heads):
            logits, target = head(hidden), targets[..., i]
            frame_loss = F.cross_entropy(logits.float().transpose(1, 2), target, reduction="none")
            known = target >= 0
            masked, unmasked = (frame_loss[known & part].sum() / mask.numel() for part in (mask, ~mask))
            loss = loss + 2 * (masked + unmasked_weight * unmasked) / len(self.heads)
            with torch.no_grad():
                hit, counted = logits.argmax(-1) == target, known & mask
                if counted.any():
                    report |= {f"masked_loss_{head.out_features}": frame_loss[counted].mean().item()}
                    report |= {f"masked_acc_{head.out_features}": hit[counted].float().mean().item()}
        return loss, report


class Optimizers:
    """Muon (Jordan 2024) for the matrices inside the transformer, AdamW for everything else, as one optimizer."""

    def __init__(self, model: Pretrainer, training: Training):
        matrices = [p for p in model.upstream.encoder.layers.parameters() if p.ndim == 2]
        inside = set(matrices)
        others = [p for p in model.parameters() if p.ndim > 1 and p not in inside]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        decay = training.weight_decay
        self.peaks = [training.matrix_lr, training.lr]
        self.parts = [
            torch.optim.Muon(matrices, weight_decay=decay, ns_steps=4, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [{"params": others, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}],
                betas=tuple(training.betas), fused=True,
            ),
        ]  # fmt: skip

    def set_rate(self, share: float) -> None:
        """Learning rates as a share of their peaks."""
        for peak, part in zip(self.peaks, self.parts, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * share

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def learning_rate(step: int, steps: int, training: Training) -> float:
    """The rate at a step as a share of its peak: a ramp, then a cosine."""
    warm = min(1.0, (step + 1) / training.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warm * (training.final_lr + (1 - training.final_lr) * cosine)


def export(upstream: nn.Module, folder: Path) -> None:
    """A HuggingFace folder in half precision, as s3prl's hf_hubert_custom and transformers load it.

    An earlier one of that name is replaced.
    """
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    )
    shutil.rmtree(folder, ignore_errors=True)
    with replacing_folder(folder) as made:
        upstream.half().save_pretrained(made)
        extractor.save_pretrained(made)
    upstream.float()
