"""Setting a training method up on a plain model, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from s3router.errors import ConfigError
from s3router.masks import MaskConfig, attach, iterate
from s3router.masks.attach import trainable_names
from s3router.masks.targets import Target, find_targets
from s3router.prune.attach import attach_pruning
from s3router.tuners import bitdelta, houlsby, peft_layers
from s3router.tuners.methods import METHODS, complete_conf
from s3router.tuners.start import count_removals

RECORD = "_s3router_method"
"""Attribute of a model that says what was attached to it."""

_ADDITIONS: dict[str, Callable[[nn.Module, list[Target], dict[str, Any], int], dict[str, Any]]] = {
    "lora": peft_layers.add_lora,
    "dora": peft_layers.add_dora,
    "sparse_delta": peft_layers.add_sparse_delta,
    "bitdelta": bitdelta.add,
    "houlsby": houlsby.add,
}


def attach_method(
    module: nn.Module,
    method: str,
    mask: MaskConfig | None = None,
    conf: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Freeze a model, and attach or free what the method trains.

    With methods that prune, whoever trains the model frees all other weights, too.

    Args:
        module: the bare backbone, or a whole recogniser; not the head, which would be frozen.
        method: one of `METHODS` that is ``attached``.
        mask: of the methods with ``masks``.
        conf: fields of the method's ``conf``; targets are roles (``ffn``, ``attention``) or name patterns, as of masks.
        seed: of what is drawn at random.

    Raises:
        ConfigError: an unknown method or field, targets that fit nothing, something attached already.
    """
    if method not in METHODS or not METHODS[method].attached:
        known = ", ".join(name for name, other in METHODS.items() if other.attached)
        raise ConfigError(f"method {method!r} cannot be attached; known: {known}")
    if RECORD in module.__dict__ or next(iterate(module), None) is not None:
        raise ConfigError(f"{type(module).__name__} has something attached already; load the model anew")
    if METHODS[method].masks != (mask is not None):
        raise ConfigError(f"method {method} {'needs a' if mask is None else 'takes no'} mask configuration")
    filled = complete_conf(method, conf or {})
    if mask is not None:
        if METHODS[method].prunes:
            attach_pruning(module, method, mask, filled)
        else:
            _attach_masks(module, method, mask)
        module.__dict__[RECORD] = {"method": method}
        return
    module.requires_grad_(False)
    if method == "bitfit":
        names = trainable_names(module, ("bias", "layer_norm"))
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in names)
        module.__dict__[RECORD] = {"method": method}
        return
    targets = find_targets(module, MaskConfig.from_dict({"targets": filled["targets"]}))
    if method == "ffn_weight":
        modules = dict(module.named_modules())
        for target in targets:
            modules[target.module]._parameters[target.parameter].requires_grad_(True)
        module.__dict__[RECORD] = {"method": method}
        return
    module.__dict__[RECORD] = {"method": method, **_ADDITIONS[method](module, targets, filled, seed)}


def _attach_masks(module: nn.Module, method: str, mask: MaskConfig) -> None:
    if method == "router":
        attach(module, mask, removals=count_removals(module, mask) if mask.start_packs else None)
        return
    for each in attach(module, replace(mask, score_init="weight", score_average=0.0, train=())):
        each.fix()


def uncalled(module: nn.Module, run: Callable[[], object]) -> list[str]:
    """Modules with additions that a forward pass leaves aside.

    Some attention layers read the weights of their projections without calling them; additions to those would never
    train.

    Args:
        run: makes a forward pass.
    """
    names = module.__dict__.get(RECORD, {}).get("modules", ())
    called: set[str] = set()
    handles = [
        module.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name)) for name in names
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in names if name not in called]
