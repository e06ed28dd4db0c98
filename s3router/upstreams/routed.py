"""The upstream that s3prl and ESPnet see: any loaded upstream, with its masks, feature masking and feature cache."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.upstreams.anatomy import ConvGeometry, exact_padding_mask, find_feature_extractor, find_stacked_positions
from s3router.upstreams.digest import weights_hash
from s3router.upstreams.extractor import (
    CacheConfig,
    ExtractorControl,
    FeaturesStored,
    control_extractor,
    silence_padding,
)
from s3router.upstreams.feature_cache import FeatureCache
from s3router.upstreams.specaug import SpecAug, SpecAugConfig


class RoutedUpstream(nn.Module):
    """An s3prl-style upstream around another one.

    What it changes of the other, whose features are the same otherwise:

    - an utterance's features do not depend on the batch it is padded in (see `exact_padding_mask`,
      `silence_padding` and, for models with group norm, `s3router.upstreams.extractor`); frames past its end repeat
      its last one;
    - waveforms shorter than one frame are padded with zeros to one frame;
    - the convolutions are frozen and build no graph, unless ``train_feature_extractor``.

    Args:
        expert: module with ``forward(wavs) -> {"hidden_states": [...]}`` and ``get_downsample_rates``; it is changed
            in place.
        specaug: mask features in training mode; None: no masking.
        cache: keep the frozen convolutions' output on disk; None: compute it each time.
        train_feature_extractor: leave the convolutions trainable.

    Attributes:
        backbone_fingerprint: `s3router.upstreams.fingerprint` of the weights as they were loaded.

    Raises:
        ConfigError: specaug or cache is asked for, and the model has no place for it.
    """

    def __init__(
        self,
        expert: nn.Module,
        specaug: SpecAugConfig | None = None,
        cache: CacheConfig | None = None,
        train_feature_extractor: bool = False,
    ):
        super().__init__()
        self.expert = expert
        self.backbone_fingerprint = weights_hash(self.backbone)
        self._control: ExtractorControl | None = None
        if found := find_feature_extractor(self.backbone):
            self._control = self._take_over(found[1], cache)
            found[1].requires_grad_(train_feature_extractor)
        elif cache is not None:
            raise ConfigError(
                f"feature_cache: {type(self.backbone).__name__} has no convolutional feature extractor whose output "
                "could be kept. Leave feature_cache out."
            )
        self.specaug = None if specaug is None else SpecAug(specaug, self.backbone)

    @property
    def backbone(self) -> nn.Module:
        """The bare model (HubertModel, Wav2Vec2Model ...) whose weights are masked and fingerprinted."""
        model = getattr(self.expert, "model", None)
        return model if isinstance(model, nn.Module) else self.expert

    def get_downsample_rates(self, key: str | None = None) -> Any:
        """Samples per frame, as the wrapped upstream says."""
        return self.expert.get_downsample_rates(key)

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """[(samples,)] at 16 kHz, float -> {"hidden_states": [(B, T, C)] * n, "last_hidden_state": (B, T, C)}.

        The first hidden state is what enters the first transformer layer, the last is the encoder's output.
        """
        if self._control is None:
            hidden = list(self.expert(wavs)["hidden_states"])
        else:
            wavs, frames = self._prepare(wavs)
            self._control.wavs, self._control.frames = wavs, frames
            if self.specaug is not None:
                self.specaug.frames = frames
            try:
                hidden = list(self.expert(wavs)["hidden_states"])
            finally:
                self._control.wavs = self._control.frames = None
            hidden = _repeat_last(hidden, frames)
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    @property
    def feature_store(self) -> FeatureCache | None:
        """The store of this upstream's features, opened where it was not yet; None without ``cache``."""
        if self._control is None or self._control.cache is None:
            return None
        return self._extractor.open_store()

    @torch.no_grad()
    def store_features(self, wavs: list[Tensor]) -> None:
        """Fill the feature cache with these waveforms [(samples,)], without running the transformer."""
        if self.feature_store is None:
            raise ConfigError("store_features: the upstream was built without feature_cache.")
        self._control.only_store = True
        try:
            self(wavs)
        except FeaturesStored:
            pass
        finally:
            self._control.only_store = False

    @property
    def _extractor(self) -> nn.Module:
        return find_feature_extractor(self.backbone)[1]

    def _prepare(self, wavs: list[Tensor]) -> tuple[list[Tensor], list[int]]:
        geometry = self._control.geometry
        shortest = geometry.receptive_field
        wavs = [F.pad(wav, (0, shortest - len(wav))) if len(wav) < shortest else wav for wav in wavs]
        return wavs, [geometry.frames(len(wav)) for wav in wavs]

    def _take_over(self, extractor: nn.Module, cache: CacheConfig | None) -> ExtractorControl:
        control = ExtractorControl(ConvGeometry.of(extractor), _settings(self.expert), cache)
        control_extractor(extractor, control)
        backbone = self.backbone
        if hasattr(backbone, "feature_grad_mult"):
            backbone.feature_grad_mult = (
                1.0  # at 0 fairseq's models never train the convolutions; we decide by freezing
            )
        if hasattr(backbone, "forward_padding_mask"):
            own = backbone.forward_padding_mask
            backbone.forward_padding_mask = functools.partial(exact_padding_mask, control.geometry, own)
        for convolution in find_stacked_positions(backbone):
            convolution.register_forward_pre_hook(functools.partial(silence_padding, control))
        return control


def _settings(expert: nn.Module) -> str:
    """What an upstream does to waveforms before the convolutions, as far as it can be read off it."""
    kind = type(expert)
    places = [expert, getattr(expert, "task_cfg", None), getattr(expert, "cfg", None)]
    flags = [(name, getattr(place, name, None)) for place in places for name in ("normalize", "wav_normalize")]
    return f"{kind.__module__}.{kind.__qualname__} {[flag for flag in flags if flag[1] is not None]}"


def _repeat_last(hidden: list[Tensor], frames: list[int]) -> list[Tensor]:
    """Fill each (B, T, C) past an utterance's end with its last frame.

    S3PRLUpstream counts one frame for each stride of samples, one or two more than the convolutions give. Alone, an
    utterance gets them by repeating its last frame; so it does here in a batch.
    """
    if len(set(frames)) == 1:
        return hidden
    last = torch.tensor(frames, device=hidden[0].device) - 1
    valid = torch.arange(max(frames), device=last.device) <= last[:, None]
    rows = torch.arange(len(frames), device=last.device)
    return [
        torch.where(valid[:, :, None], h, h[rows, last][:, None]) if h.shape[:2] == valid.shape else h for h in hidden
    ]
