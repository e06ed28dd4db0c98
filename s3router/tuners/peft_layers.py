"""LoRA, DoRA and SHiRA by HuggingFace PEFT, injected into any model by the names of its linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s3router.errors import ConfigError
from s3router.masks.targets import Target
from s3router.packs.adapters import sparse_positions
from s3router.tuners.sizes import rank_at_equal_bytes

NAME = "default"  # PEFT's name of the one set of additions


def add_lora(module: nn.Module, targets: list[Target], conf: dict[str, Any], seed: int, dora: bool = False) -> dict:
    """Add B·A of rank r, scaled by lora_alpha / r, to each target's weight (rows, columns).

    Returns:
        ``modules`` that have additions, and ``scale``.
    """
    from peft import LoraConfig

    rank = conf["r"] or rank_at_equal_bytes(target.shape for target in targets)
    alpha = conf["lora_alpha"] or 2 * rank
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=conf["lora_dropout"], use_dora=dora, target_modules=_modules(targets)
    )
    _inject(module, config, seed)
    return {"modules": _modules(targets), "scale": alpha / rank}


def add_dora(module: nn.Module, targets: list[Target], conf: dict[str, Any], seed: int) -> dict:
    """As `add_lora`; the norm of each row of the weight trains apart from its direction."""
    return add_lora(module, targets, conf, seed, dora=True)


def add_sparse_delta(module: nn.Module, targets: list[Target], conf: dict[str, Any], seed: int) -> dict:
    """Train r·(rows + columns) weights of each target, at positions that follow from the seed and the weight's name.

    Returns:
        ``modules`` that have additions, and ``seed``.
    """
    from peft import ShiraConfig

    rank = conf["r"] or rank_at_equal_bytes(target.shape for target in targets)
    names = {id(module.get_submodule(target.module)): target.name for target in targets}

    def chosen(layer: nn.Module, r: int, **_: Any) -> Tensor:
        shape = tuple(layer.weight.shape)
        found = torch.zeros(shape, dtype=layer.weight.dtype, device=layer.weight.device)
        positions = sparse_positions(names[id(layer)], shape, r * sum(shape), seed)
        found.view(-1)[positions.to(found.device)] = 1
        return found

    if small := next((t for t in targets if rank * sum(t.shape) > t.shape[0] * t.shape[1]), None):
        raise ConfigError(f"method_conf: r {rank} is more than all weights of {small.name} {list(small.shape)}")
    config = ShiraConfig(r=rank, target_modules=_modules(targets))
    config.mask_fn = chosen
    _inject(module, config, seed)
    return {"modules": _modules(targets), "seed": seed}


def _modules(targets: list[Target]) -> list[str]:
    if other := [target.name for target in targets if target.parameter != "weight"]:
        raise ConfigError(
            f"method_conf: {', '.join(other[:3])} holds several projections in one, and no linear layer to add to; "
            "take targets ffn"
        )
    return [target.module for target in targets]


def _inject(module: nn.Module, config: Any, seed: int) -> None:
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, module)


def lora_tensors(layer: nn.Module) -> dict[str, Tensor] | None:
    """``lora_A`` (r, columns), ``lora_B`` (rows, r), of DoRA ``magnitude`` (rows,); None for layers of another kind."""
    from peft.tuners.lora import LoraLayer

    if not isinstance(layer, LoraLayer):
        return None
    found = {"lora_A": layer.lora_A[NAME].weight, "lora_B": layer.lora_B[NAME].weight}
    if NAME in layer.lora_magnitude_vector:
        found["magnitude"] = layer.lora_magnitude_vector[NAME].weight
    return found


def sparse_tensors(layer: nn.Module) -> dict[str, Tensor] | None:
    """``values`` (k,), in the order of `sparse_positions`; None for layers of another kind."""
    from peft.tuners.shira.layer import ShiraLayer

    return {"values": layer.shira_weight[NAME]} if isinstance(layer, ShiraLayer) else None
