"""The upstream that s3prl and ESPnet see: any loaded upstream, with its masks, feature masking and feature cache."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class RoutedUpstream(nn.Module):
    """An s3prl-style upstream around another one.

    Args:
        expert: module with ``forward(wavs) -> {"hidden_states": [...]}`` and ``get_downsample_rates``.
    """

    def __init__(self, expert: nn.Module):
        super().__init__()
        self.expert = expert

    @property
    def backbone(self) -> nn.Module:
        """The bare model (HubertModel, Wav2Vec2Model ...) whose weights are masked and fingerprinted."""
        model = getattr(self.expert, "model", None)
        return model if isinstance(model, nn.Module) else self.expert

    def get_downsample_rates(self, key: str | None = None) -> Any:
        """Samples per frame."""
        return self.expert.get_downsample_rates(key)

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """[(samples,)] at 16 kHz -> {"hidden_states": [(B, T, C)] * n}."""
        return {"hidden_states": list(self.expert(wavs)["hidden_states"])}
