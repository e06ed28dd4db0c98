"""Training methods of a whole recogniser: which parameters train, and what a checkpoint holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, masks_of

if TYPE_CHECKING:
    from torch import Tensor, nn

METHODS = {
    "router": "scores of weight masks on the frozen recogniser (S3-Router)",
    "weight": "all weights but the two convolutions and the positions of the encoder",
    "lora": "low-rank additions to the linear layers (LoRA, arXiv 2106.09685, by HuggingFace PEFT)",
    "frozen": "nothing: the recogniser as it was published (zero-shot)",
}
"""Method -> what it trains. There is no head: the vocabulary is the recogniser's own."""

TARGETS = {
    "ffn": ("model.*.fc1", "model.*.fc2"),
    "attention": ("model.*_attn.?_proj", "model.*_attn.out_proj"),
}
"""Role -> patterns of modules, in encoder and decoder alike."""

LORA = {"r": 24, "lora_alpha": 48, "lora_dropout": 0.0, "targets": ["ffn"]}
"""In half precision as many bytes as the masks of the same layers at one bit per weight, at the size of base."""

_FIXED = ("model.encoder.conv1.", "model.encoder.conv2.", "model.encoder.embed_positions.")


def mask_config(options: Mapping[str, Any], seed: int) -> MaskConfig:
    """The masks that options ask for: ``mask_conf`` and ``sparsity``, which goes before.

    Raises:
        ConfigError: as `MaskConfig`.
    """
    given = dict(options.get("mask_conf") or {})
    if options.get("sparsity") is not None:
        given["sparsity"] = options["sparsity"]
    return MaskConfig.from_dict({"seed": seed, **given})


def patterns(targets: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Roles as patterns of the recogniser's modules; patterns as they are."""
    return tuple(pattern for target in targets for pattern in TARGETS.get(target, (target,)))


def apply_method(model: nn.Module, method: str, options: Mapping[str, Any], seed: int) -> None:
    """Freeze what stays, and attach what trains, in place.

    Args:
        model: a `s3router.upstreams.whisper_recogniser.WhisperRecogniser`.
        method: one of `METHODS`.
        options: ``mask_conf``, ``sparsity`` (router), ``lora_conf`` (lora).
        seed: of what is initialised at random.

    Raises:
        ConfigError: an unknown method, or masks or additions that fit nothing.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    model.requires_grad_(method == "weight")
    if method == "weight":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(_FIXED))
    elif method == "router":
        from dataclasses import replace

        config = mask_config(options, seed)
        attach(model, replace(config, targets=patterns(config.targets)))
    elif method == "lora":
        _add_lora(model, {**LORA, **(options.get("lora_conf") or {})}, seed)


def _add_lora(model: nn.Module, conf: dict[str, Any], seed: int) -> None:
    from fnmatch import fnmatchcase

    import torch
    from peft import LoraConfig, inject_adapter_in_model

    wanted = patterns(tuple(conf.pop("targets")))
    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    chosen = [name for name in linears if any(fnmatchcase(name, pattern) for pattern in wanted)]
    if not chosen:
        raise ConfigError(f"lora_conf: targets: {', '.join(wanted)} match no linear layer; known: ffn, attention")
    try:
        config = LoraConfig(target_modules=chosen, **conf)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"lora_conf: {error}") from None


def adapted_weights(model: nn.Module, method: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What was learnt, in terms of the plain recogniser: (masks, other weights), by plain names, as new tensors.

    Additions of LoRA are added to the weights that they belong to.
    """
    from s3router.packs.fingerprint import plain_name

    if method == "lora":
        return {}, _merged(model)
    masks = masks_of(model) if method == "router" else {}
    trained = {plain_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    return masks, {name: p.detach().cpu().clone() for name, p in trained.items() if name is not None}


def _merged(model: nn.Module) -> dict[str, Tensor]:
    from peft.tuners.lora import Linear

    return {
        f"{name}.weight": (layer.base_layer.weight + layer.get_delta_weight("default")).detach().cpu().clone()
        for name, layer in model.named_modules()
        if isinstance(layer, Linear)
    }
