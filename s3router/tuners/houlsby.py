"""Bottlenecks behind attention and feed-forward layers (arXiv 1902.00751, section 2.1)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s3router.errors import ConfigError
from s3router.masks.targets import Target
from s3router.tuners.sizes import bottleneck_at_equal_bytes

CHILD = "houlsby"
_OUTPUTS = re.compile(r"(fc2|output_dense|w_2|linear2|channel_proj2|out_proj|linear_out|output\.dense)$")
"""The last linear layer of a feed-forward or attention layer, in the names that the field has for it."""


class Bottleneck(nn.Module):
    """y -> y + up(gelu(down(y))), the identity at first.

    Args:
        width: of y (…, width).
        bottleneck: values in between.
    """

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.normal_(self.down.weight, std=0.01)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, y: Tensor) -> Tensor:
        """(…, width) -> (…, width)"""
        return y + self.up(F.gelu(self.down(y)))


def _through(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return getattr(layer, CHILD)(output)


def add(module: nn.Module, targets: list[Target], conf: dict[str, Any], seed: int) -> dict:
    """Put a `Bottleneck` behind the last linear of each layer among the targets.

    By default as wide as takes the bytes of coded masks on the feed-forward weights.

    Returns:
        ``modules`` that have one.
    """
    outputs = [target for target in targets if _OUTPUTS.search(target.module) and target.parameter == "weight"]
    if not outputs:
        seen = ", ".join(target.module for target in targets[:6])
        raise ConfigError(
            f"method_conf: targets: none of {seen} … is the last linear of a layer; name patterns of those"
        )
    masked = sum(
        target.shape[0] * target.shape[1]
        for target in targets
        if target.role != "attention" and "attn" not in target.module
    )
    width = conf["bottleneck"] or bottleneck_at_equal_bytes(
        masked or sum(target.shape[0] * target.shape[1] for target in targets), [target.shape[0] for target in outputs]
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for target in outputs:
            layer = module.get_submodule(target.module)
            bottleneck = Bottleneck(target.shape[0], width).to(layer.weight)
            layer.add_module(CHILD, bottleneck)
            layer.register_forward_hook(_through)
    return {"modules": [target.module for target in outputs]}


def tensors(layer: nn.Module) -> dict[str, Tensor] | None:
    """The bottleneck's parameters by their names in packs; None for layers without one."""
    found = layer._modules.get(CHILD)
    return None if not isinstance(found, Bottleneck) else dict(found.named_parameters())
