"""A small encoder with fairseq's names, made of torch alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("q", "k", "v", "out")})
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.self_attn[f"{name}_proj"](x) for name in ("q", "k", "v"))
        x = x + self.self_attn["out_proj"]((q @ k.transpose(1, 2)).softmax(-1) @ v)
        return self.final_layer_norm(x + self.fc2(torch.relu(self.fc1(x))))


class Encoder(nn.Module):
    def __init__(self, width: int = 8, layers: int = 2) -> None:
        super().__init__()
        self.post_extract_proj = nn.Linear(4, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, 4) -> (batch, frames, width)"""
        x = self.post_extract_proj(x)
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    def make(**kwargs: int) -> Encoder:
        torch.manual_seed(1)
        return Encoder(**kwargs)

    return make


@pytest.fixture
def encoder(make_encoder: Callable[..., Encoder]) -> Encoder:
    return make_encoder()


@pytest.fixture
def audio() -> Tensor:
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
